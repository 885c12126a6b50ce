"""gptbench sweep."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gptbench import conventions, documents, grid, outputs, shelf, sweep
from gptbench.cli.answer import overall_bar, show
from gptbench.cli.options import ConventionOption, Devices, Format, FormatOption
from gptbench.conventions import Convention
from gptbench.errors import EXIT_DONE, EXIT_UNAVAILABLE, QuestionError
from gptbench.grid import Spec
from gptbench.sweep import Outcome, Stored


def command(
    spec: Annotated[
        Path, typer.Argument(metavar="SPEC.toml", help="A TOML file: [options], [grid], [[point]].")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="DIR", help="Store points and tables there (default: SPEC)."
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try points again that failed before.")
    ] = False,
    devices: Devices = None,
    convention: ConventionOption = "exact",
    format: FormatOption = Format.table,
) -> int:
    """Measure a grid or list of points, each in processes of its own; go on where it was stopped.

    A key of SPEC.toml is a long option of 'gptbench throughput' with underscores, such as
    batch_size = [1, 2, 4] in [grid]. A point that fails is a row.

    Example: gptbench sweep sizes.toml --out results/sizes
    """
    counted = conventions.named(convention)
    asked = grid.read(spec, devices)
    folder = outputs.output_folder(out or _beside(spec))
    with shelf.locked(folder):
        before = sweep.stored(asked, folder, retry_failed)
        _tell(_said_before(asked, before, folder))
        outcomes = _measured(asked, before, folder)
        _write(folder, asked, outcomes, counted)
    _show(format, asked, outcomes, counted)
    return EXIT_DONE if any(outcome.record for outcome in outcomes) else EXIT_UNAVAILABLE


def _beside(spec: Path) -> Path:
    """'sizes' of 'sizes.toml'."""
    if spec.suffix != ".toml":
        raise QuestionError(f"'{spec}' does not end in .toml. Type --out DIR for its results.")
    return spec.with_suffix("")


def _said_before(asked: Spec, before: Stored, folder: Path) -> str:
    """What is known already, what is to be done, and what is left alone."""
    done = sum(outcome.record is not None for outcome in before.outcomes)
    failed = sum(outcome.failure is not None for outcome in before.outcomes)
    left = len(before.outcomes) - done - failed
    facts = [f"{left} to measure"]
    facts += [f"{done} kept from before"] if done else []
    facts += [f"{failed} failed before (--retry-failed tries again)"] if failed else []
    facts += [f"{before.retried} of them failed before"] if before.retried else []
    points = f"{len(before.outcomes)} point{'s' * (len(before.outcomes) != 1)}"
    sentence = f"{asked.path} asks for {points}: {', '.join(facts)}."
    if asked.repeated:
        sentence += f" Left out because they ask the same as another: {asked.repeated}."
    if before.others:
        sentence += f" In {folder} but not asked for, and left alone: {before.others}."
    return sentence


def _measured(asked: Spec, before: Stored, folder: Path) -> tuple[Outcome, ...]:
    total = len(before.outcomes)

    def finished(number: int, outcome: Outcome) -> None:
        _tell(f"[{number}/{total}] {outcome.point.name}: {_in_short(outcome)}")

    try:
        with overall_bar(total) as progress:
            return sweep.run(before.outcomes, folder, progress, finished)
    except KeyboardInterrupt:
        done = len(shelf.keys(folder) & {point.key for point in asked.points})
        _tell(f"{done} of {total} points are in {folder}. Type the same command to go on.")
        raise


def _in_short(outcome: Outcome) -> str:
    from gptbench import metrics
    from gptbench.report import results, runs

    if outcome.failure:
        return outcome.failure.kind
    assert outcome.record is not None
    speed = metrics.derive(outcome.record).window_tokens_per_s
    return f"{results.rate(speed)} {runs.rate(outcome.record)}"


def _write(folder: Path, asked: Spec, outcomes: Sequence[Outcome], counted: Convention) -> None:
    """sweep.json, sweep.csv, report.html and where it can be sweep.parquet, each whole."""
    from gptbench.report import frame, sweeps
    from gptbench.report.pages import result

    tidy = sweeps.tidy(outcomes, counted)
    document = sweeps.document(outcomes, str(asked.path), counted)
    files: dict[str, Any] = {
        "sweep.json": documents.dump_json(document),
        "sweep.csv": frame.csv_text(tidy),
    }
    try:
        files["sweep.parquet"] = frame.parquet(tidy)
    except ImportError:
        _tell("No sweep.parquet: it needs pyarrow. Type: pip install 'gptbench[parquet]'")
    records = [outcome.record for outcome in outcomes if outcome.record]
    if records:
        files["report.html"] = result.page(records, counted, sweeps.failures(outcomes))
    outputs.write_all(folder, files)
    for stale in {"sweep.parquet", "report.html"} - files.keys():
        (folder / stale).unlink(missing_ok=True)
    _tell(f"Wrote {', '.join(files)} in {folder}.")


def _show(format: Format, asked: Spec, outcomes: Sequence[Outcome], counted: Convention) -> None:
    from gptbench.report import frame, sweeps

    if format is Format.csv:
        sys.stdout.write(frame.csv_text(sweeps.tidy(outcomes, counted)))
    else:
        table = sweeps.table(outcomes, asked.varying, counted)
        show(format, [table], lambda: sweeps.document(outcomes, str(asked.path), counted))
    names = sorted({outcome.record.device.name for outcome in outcomes if outcome.record})
    if len(names) > 1:
        _tell(f"Note: these points were measured on different devices: {', '.join(names)}.")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)
