"""gptbench export."""

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from gptbench import outputs, runner
from gptbench.cli.answer import progress_bar
from gptbench.cli.options import CheckpointArgument
from gptbench.config import parse_dtype
from gptbench.errors import QuestionError
from gptbench.generation import ExportTask
from gptbench.units import grouped


def command(
    checkpoint: CheckpointArgument,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="DIR", help="Write the model to DIR, a new folder."),
    ],
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="DTYPE", help="Store weights in DTYPE (default: as found)."
        ),
    ] = None,
) -> None:
    """Write a checkpoint as one of transformers: its from_pretrained reads the folder.

    Example: gptbench export checkpoint --out gpt2-of-my-own
    """
    task = ExportTask(
        checkpoint=checkpoint,
        out=str(out),
        dtype=parse_dtype(dtype) if dtype else None,
    )
    if (out / "config.json").exists() or any(out.glob("*.safetensors")):
        raise QuestionError(f"--out '{out}' holds a model already. Type a new folder.")
    there = out.exists()
    outputs.output_folder(out)
    try:
        with progress_bar() as progress:
            exported = runner.export(task, progress)
    finally:
        # A folder that was made for nothing does not stay; one that holds something does.
        if not there:
            with contextlib.suppress(OSError):
                out.rmdir()
    print(
        f"Wrote {exported.model} with {grouped(exported.parameters)} parameters in "
        f"{exported.dtype} to {out}, as a {exported.kind} of transformers.",
        file=sys.stderr,
    )
