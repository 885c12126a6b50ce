"""gptbench mfu."""

import sys
from typing import Annotated

import typer

from gptbench import published
from gptbench.cli.answer import show
from gptbench.cli.options import (
    Devices,
    Format,
    FormatOption,
    ModelArgument,
    RecomputeChoice,
    SeqLen,
)
from gptbench.report import published as report


def command(
    model: ModelArgument,
    tokens_per_s: Annotated[
        str | None,
        typer.Option(metavar="N", help="Judge N tokens/s of all GPUs together, such as 868k."),
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option("--mfu", metavar="SHARE", help="Turn an MFU, such as 45%, into tokens/s."),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Judge by this GPU's peak, such as a100.")
    ] = None,
    n_gpus: Annotated[int, typer.Option(metavar="G", min=1, help="Count G GPUs.")] = 1,
    seq_len: SeqLen = None,
    dtype: Annotated[
        str, typer.Option(metavar="DTYPE", help="Judge by the peak of this dtype.")
    ] = "bfloat16",
    recompute: Annotated[
        RecomputeChoice, typer.Option(help="Add to HFU what is computed again.")
    ] = RecomputeChoice.none,
    tokens: Annotated[
        str | None,
        typer.Option(metavar="COUNT", help="Time a training of this many tokens, such as 300B."),
    ] = None,
    peak: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="State the dense peak of one GPU: 125TFLOP/s."),
    ] = None,
    devices: Devices = None,
    format: FormatOption = Format.table,
) -> None:
    """Judge a published or logged throughput, under every convention.

    Example: gptbench mfu gpt2-small --tokens-per-s 868k --gpu a100 --n-gpus 8
    """
    question = published.Question(
        model=model,
        tokens_per_s=tokens_per_s,
        mfu=claim,
        tokens=tokens,
        gpu=gpu,
        n_gpus=n_gpus,
        seq_len=seq_len,
        dtype=dtype,
        recompute=recompute.value,
        peak=peak,
        devices=devices,
    )
    found = published.answer(question)
    show(format, [report.table(found)], lambda: published.document(found))
    sys.stdout.flush()
    for diagnosis in found.diagnoses:
        print(f"Note: {report.sentence(diagnosis)}", file=sys.stderr)
    published.refuse_impossible(found)
