"""gptbench gpus."""

from typing import Annotated

import typer

from gptbench import device
from gptbench.cli.answer import show
from gptbench.cli.options import Devices, Format, FormatOption
from gptbench.report import catalogue


def command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An id, a short name, or a name as drivers say it."),
    ] = None,
    devices: Devices = None,
    format: FormatOption = Format.table,
) -> None:
    """Show the peaks of devices: dense, per dtype, with sources.

    Example: gptbench gpus a100
    """
    rows = device.table(devices)
    found = device.find(name, rows) if name else rows
    tables = [catalogue.gpu(d) for d in found] if name else [catalogue.gpus(found)]
    show(format, tables, lambda: {"devices": [device.document(d) for d in found]})
