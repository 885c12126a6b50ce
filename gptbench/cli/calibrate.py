"""gptbench calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from gptbench import __version__, calibrate, calibrated, documents, outputs
from gptbench.cli.answer import progress_bar, show, write_files
from gptbench.cli.options import (
    BatchSize,
    DeviceChoice,
    Devices,
    DtypeOption,
    Format,
    FormatOption,
    SeqLen,
)
from gptbench.report import calibrations


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]", help="Time the products of this model too: a preset, a config.json."
        ),
    ] = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    dtype: DtypeOption = None,
    device: Annotated[DeviceChoice, typer.Option(help="Measure this.")] = DeviceChoice.auto,
    devices: Devices = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what is known from the last 7 days.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Write calibration.json, .csv, calibrate.html, roofline.svg.",
        ),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Measure what this device can do: matrix products, copies, launches.

    Example: gptbench calibrate gpt2-small --out results
    """
    folder = outputs.output_folder(out) if out else None
    question = calibrate.Question(
        model=model,
        batch_size=batch_size,
        seq_len=seq_len,
        dtype=dtype,
        device=device.value,
        devices=devices,
        fresh=fresh,
    )
    with progress_bar() as progress:
        found = calibrate.run(question, progress)
    if folder is not None:
        _write(folder, found)
    show(format, calibrations.tables(found), lambda: calibrated.document(found))


def _write(folder: Path, found: calibrated.Calibration) -> None:
    """What was measured, as files that are each whole or not at all."""
    from gptbench.report import delimited, figures, rooflines
    from gptbench.report.pages import calibration as page

    files = {
        "calibration.json": documents.dump_json(calibrated.document(found)),
        "calibration.csv": delimited.table_csv(calibrations.tidy(found)),
        "calibrate.html": page.page(found, __version__),
    }
    drawn = rooflines.of_calibration(found)
    if drawn:
        files["roofline.svg"] = figures.standalone(rooflines.picture(drawn))
    write_files(folder, files)
