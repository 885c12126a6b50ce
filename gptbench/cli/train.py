"""gptbench train."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from gptbench import documents, outputs, train, trainrecord
from gptbench.cli.answer import live_line, show, write_files
from gptbench.cli.options import (
    AttentionChoice,
    AttentionOption,
    BatchSize,
    Compile,
    DeviceChoice,
    Devices,
    DtypeOption,
    Format,
    FormatOption,
    GradAccum,
    RecomputeChoice,
    RecomputeOption,
    SeqLen,
    Tf32,
    Where,
)
from gptbench.question import Question
from gptbench.report import learning
from gptbench.train import TrainQuestion
from gptbench.trainrecord import TrainRecord


def command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A preset, a .toml, or a config.json.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="PATH|algebra[:N]|datasets:NAME",
            help="Learn a text file, a folder of .txt and .md, N lines of arithmetic, or a data "
            "set of Hugging Face (NAME[@CONFIG], or a folder).",
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(metavar="KIND", help="Make tokens of it: char, byte, bpe or bpe:SIZE."),
    ] = "char",
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Update the weights N times.")] = (
        5000
    ),
    time: Annotated[
        str | None, typer.Option(metavar="T", help="Stop after T, such as 3m; --resume goes on.")
    ] = None,
    target_loss: Annotated[
        float | None,
        typer.Option(metavar="L", help="Stop when the validation loss is down to L nats."),
    ] = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    grad_accum: GradAccum = 1,
    learning_rate: Annotated[
        float, typer.Option(metavar="R", help="Climb to this learning rate, then fall to a tenth.")
    ] = 1e-3,
    warmup_steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Climb for N steps (default: 100, at most 10%)."),
    ] = None,
    weight_decay: Annotated[
        float, typer.Option(metavar="W", help="Let matrices decay, and nothing else.")
    ] = 0.1,
    grad_clip: Annotated[
        float, typer.Option(metavar="G", help="Shorten longer gradients to G; 0: never.")
    ] = 1.0,
    dropout: Annotated[
        float, typer.Option(metavar="P", help="Set this share of numbers to zero.")
    ] = 0.2,
    dtype: DtypeOption = None,
    tf32: Tf32 = False,
    attention: AttentionOption = AttentionChoice.fused,
    recompute: RecomputeOption = RecomputeChoice.none,
    compile: Compile = False,
    eval_every: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Look at the validation loss, and keep the model, every N steps (default: 20 times).",
        ),
    ] = None,
    eval_batches: Annotated[
        int, typer.Option(metavar="N", min=1, help="Over at most N batches, always the same.")
    ] = 20,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Begin with these weights.")] = 1,
    peak: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="State the peak: 125TFLOP/s, or 'none' for no MFU."),
    ] = None,
    device: Where = DeviceChoice.auto,
    devices: Devices = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="DIR",
            help="Keep the model in DIR/checkpoint; write train.json, .csv, .html, .svg.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training that --out DIR holds.")
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Train a preset on a text: the loss over time, tokens/s and MFU.

    Example: gptbench train scratchgpt --data tinyshakespeare.txt --tokenizer char --out run

    Example: gptbench train gptfromscratch-rope --data algebra --target-loss 1.2
    """
    question = TrainQuestion(
        question=Question(
            command=shlex.join(["gptbench", *sys.argv[1:]]),
            model=model,
            device=device.value,
            batch_size=batch_size,
            seq_len=seq_len,
            dtype=dtype,
            tf32=tf32,
            attention=attention.value,
            recompute=recompute.value,
            grad_accum=grad_accum,
            compile=compile,
            peak=peak,
            devices=devices,
        ),
        data=data,
        tokenizer=tokenizer,
        steps=steps,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        weight_decay=weight_decay,
        grad_clip=grad_clip,
        dropout=dropout,
        seed=seed,
        eval_every=eval_every,
        eval_batches=eval_batches,
        target_loss=target_loss,
        time=time,
        out=outputs.output_folder(out) if out else None,
        resume=resume,
    )
    with live_line() as progress:
        rec = train.run(question, progress)
    if out is not None:
        write(out, rec)
        print(f"The model is in {out / train.CHECKPOINT}.", file=sys.stderr)
    tell(format, rec)


def tell(format: Format, rec: TrainRecord) -> None:
    """Give stdout how it went."""
    show(format, learning.tables(rec), lambda: trainrecord.document(rec))


def write(folder: Path, rec: TrainRecord) -> None:
    """train.json, train.csv, train.html and loss.svg, each whole or not at all."""
    from gptbench.report import delimited, figures, lossplot
    from gptbench.report.pages import training

    files = {
        trainrecord.FILE: documents.dump_json(trainrecord.document(rec)),
        "train.csv": delimited.table_csv(learning.tidy(rec)),
        "train.html": training.page(rec),
        "loss.svg": figures.standalone(lossplot.curve(rec)),
    }
    write_files(folder, files)
