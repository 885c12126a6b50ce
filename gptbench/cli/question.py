"""The options of every command that runs a model here: one signature, one Question.

A command decorated with `asking` has these options in front of its own, and is called with the
Question that they are.
"""

import copy
import inspect
import shlex
import sys
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer

from gptbench import inputs
from gptbench.cli.options import (
    AttentionChoice,
    AttentionOption,
    AutoBatchChoice,
    BatchSize,
    Compile,
    Data,
    DeviceChoice,
    Devices,
    DtypeOption,
    GradAccum,
    InputDtype,
    InputShape,
    Mode,
    ModeChoice,
    NamedInputs,
    Pure,
    RecomputeChoice,
    RecomputeOption,
    SeqLen,
    Tf32,
    Where,
)
from gptbench.question import Question


def typed(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A preset, a .toml, a config.json, or your own module:factory "
            "(default: a preset to suit).",
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="Insist on this GPU, such as a100.")
    ] = None,
    auto_batch: Annotated[
        AutoBatchChoice | None,
        typer.Option(
            metavar="[=throughput]",
            help="Find the largest batch that fits, or the smallest within 1% of the fastest.",
        ),
    ] = None,
    batch_multiple: Annotated[
        int, typer.Option(metavar="M", min=1, help="Find a multiple of M.")
    ] = 1,
    max_batch_size: Annotated[
        int | None, typer.Option(metavar="B", min=1, help="Find no batch larger than B.")
    ] = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    mode: Mode = ModeChoice.train,
    dtype: DtypeOption = None,
    pure: Pure = False,
    tf32: Tf32 = False,
    attention: AttentionOption = AttentionChoice.fused,
    recompute: RecomputeOption = RecomputeChoice.none,
    grad_accum: GradAccum = 1,
    compile: Compile = False,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Time exactly N steps (default: until it is precise)."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="P", help="Until the median is known to P (default: 1%, CPU 2%)."),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="T", help="For T at the most, such as 60s (default: 10 s, CPU 12 s)."),
    ] = None,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Allow this much memory, such as 2GiB.")
    ] = None,
    input_shape: InputShape = None,
    input_dtype: InputDtype = None,
    input: NamedInputs = None,
    data: Data = None,
    peak: Annotated[
        str | None,
        typer.Option(metavar="RATE", help="State the peak: 125TFLOP/s, or 'none' for no MFU."),
    ] = None,
    device: Where = DeviceChoice.auto,
    devices: Devices = None,
) -> Question:
    """What a person typed."""
    return Question(
        command=shlex.join(["gptbench", *sys.argv[1:]]),
        model=model,
        inputs=inputs.given(input_shape, input_dtype, input or ()),
        gpu=gpu,
        device=device.value,
        auto_batch=auto_batch.value if auto_batch else None,
        batch_multiple=batch_multiple,
        max_batch_size=max_batch_size,
        batch_size=batch_size,
        seq_len=seq_len,
        mode=mode.value,
        dtype=dtype,
        pure=pure,
        tf32=tf32,
        attention=attention.value,
        recompute=recompute.value,
        grad_accum=grad_accum,
        compile=compile,
        steps=steps,
        precision=precision,
        time=time,
        memory_limit=memory_limit,
        data=data,
        peak=peak,
        devices=devices,
    )


def asking(command: Callable[..., None], refused: tuple[str, ...] = ()) -> Callable[..., None]:
    """The command with the options of a Question, which is its first argument, before its own.

    Options that it refuses are not in its help: typed all the same, it says why.
    """

    def asked(**words: Any) -> None:
        command(typed(**{name: words.pop(name) for name in shared}), **words)

    shared = inspect.signature(typed).parameters
    own = list(inspect.signature(command).parameters.values())[1:]
    offered = [_hidden(p) if p.name in refused else p for p in shared.values()]
    every = [*offered, *own]
    asked.__doc__ = command.__doc__
    # typer reads the one for the defaults, and the other for the types.
    asked.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
    asked.__annotations__ = {p.name: p.annotation for p in every}
    return asked


def _hidden(parameter: inspect.Parameter) -> inspect.Parameter:
    """The option, in no help."""
    type_, option = get_args(parameter.annotation)
    option = copy.copy(option)
    option.hidden = True
    return parameter.replace(annotation=Annotated[type_, option])
