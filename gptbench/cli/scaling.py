"""gptbench scaling."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gptbench import documents, outputs
from gptbench.cli.answer import show, write_files
from gptbench.cli.options import Devices, Format, FormatOption


def command(
    flops: Annotated[
        str | None, typer.Option(metavar="C", help="Divide C FLOPs, such as 1e21.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(metavar="H", help="Divide what GPUs do in H hours.")
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Take this GPU's peak, such as a100.")
    ] = None,
    gpus: Annotated[int, typer.Option(metavar="G", min=1, help="Count G GPUs.")] = 1,
    mfu: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Use so much of the peak, such as 40%.")
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(metavar="RESULT", help="Take the FLOP/s of this result.json instead."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="Take the peak of this dtype.")
    ] = "bfloat16",
    peak: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="State the dense peak of one GPU: 125TFLOP/s."),
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(metavar="P", help="Pay P for an hour of one GPU.")
    ] = None,
    watts: Annotated[
        float | None, typer.Option(metavar="W", help="Let one GPU draw W watts.")
    ] = None,
    law: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Ask one law alone: kaplan, chinchilla-1, -2, -3, ..."),
    ] = None,
    fit: Annotated[
        list[Path] | None,
        typer.Option(metavar="RESULTS", help="Fit a law to these runs; may be repeated."),
    ] = None,
    devices: Devices = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write scaling.json, .csv, .html, .svg."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Divide a training budget between parameters and tokens.

    RESULTS is a folder of trainings, or a CSV or JSON with parameters, tokens and loss of each.

    Example: gptbench scaling --hours 24 --gpu a100 --gpus 8 --mfu 40%
    """
    # A fit computes with scipy, which no other command is to wait for.
    from gptbench import budget
    from gptbench.report import scalings

    folder = outputs.output_folder(out) if out else None
    found = budget.answer(
        budget.Question(
            flops=flops,
            hours=hours,
            gpu=gpu,
            n_gpus=gpus,
            mfu=mfu,
            result=result,
            dtype=dtype,
            peak=peak,
            devices=devices,
            price=price_per_hour,
            watts=watts,
            law=law,
            fit=tuple(fit or ()),
        )
    )
    if folder is not None:
        _write(folder, found)
    show(format, scalings.tables(found), lambda: budget.document(found))


def _write(folder: Path, found: Any) -> None:
    """scaling.json, .csv, .html and, of a fit, its picture; each whole or not at all."""
    from gptbench import budget
    from gptbench.report import delimited, figures, frontiers, scalings
    from gptbench.report.pages import scaling as pages

    tables = scalings.tables(found)
    files = {
        "scaling.json": documents.dump_json(budget.document(found)),
        "scaling.csv": "\n".join(map(delimited.table_csv, tables)),
        "scaling.html": pages.page(found, shlex.join(["gptbench", *sys.argv[1:]])),
    }
    if found.fit is not None:
        files["scaling.svg"] = figures.standalone(frontiers.frontier(found.fit))
    write_files(folder, files)
