"""gptbench flops module:factory."""

from typing import Any

from gptbench import inputs, record, runner
from gptbench.cli.answer import progress_bar, show
from gptbench.cli.options import CountedMode, Format
from gptbench.errors import QuestionError
from gptbench.report import traces


def answer(target: str, mode: CountedMode, format: Format, options: dict[str, Any]) -> None:
    """Trace what the factory builds, and show its tree."""
    inputs.parse_target(target)
    if mode.value not in ("train", "forward"):
        raise QuestionError(f"--mode {mode.value} is for presets. Type --mode forward.")
    shape, named = options["--input-shape"], options["--input"] or ()
    if shape is None and not named:
        raise QuestionError(f"'{target}' needs an input. Type --input-shape 1x1024, or another.")
    given = tuple(map(inputs.parse_named, named))
    if shape is not None:
        dtype = inputs.parse_dtype(options["--input-dtype"] or "int64")
        given = (inputs.Input(shape=inputs.parse_shape(shape), dtype=dtype), *given)
    task = record.TraceTask(
        target=target, inputs=given, mode="train" if mode is CountedMode.train else "forward"
    )
    with progress_bar() as progress:
        traced = runner.trace(task, progress)
    depth = options["--depth"] or 3
    tables = traces.tables(traced, depth, indented=format is Format.table)
    show(format, tables, lambda: record.trace_document(traced))
