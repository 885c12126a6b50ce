"""The outcomes of a sweep: as a table, as JSON, and as one tidy frame. A failure is a row."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gptbench import __version__, metrics, shelf
from gptbench.conventions import EXACT, Convention
from gptbench.documents import to_builtins
from gptbench.metrics import Metrics
from gptbench.record import SCHEMA_VERSION, Record
from gptbench.report import caveats, frame, results
from gptbench.report.table import DASH, Cell, Column, Quantity, Table, known
from gptbench.sweep import Outcome
from gptbench.units import gib, percent, seconds

# Name and meaning of each column before those of `frame.COLUMNS`.
COLUMNS: dict[str, str] = {
    "point": "key of the point: its result is points/KEY/result.json",
    "options": "the options in which the points differ",
    "status": "done, out of memory or failed",
    "reason": "why there is no value; empty where there is one",
}

# What of a point's result stands in its own file alone: a number for every step.
_IN_ITS_FILE = ("samples",)

# Caveats that are about the peak, and so the same for many points.
_OF_PEAKS = ("peak-unknown", "peak-measured")


def table(
    outcomes: Sequence[Outcome], varying: Sequence[str], convention: Convention = EXACT
) -> Table:
    """A row a point, under the options in which they differ."""
    columns = (
        *(Column(option, right=_are_numbers(option, outcomes)) for option in varying),
        *(() if "batch_size" in varying else (Column("batch", right=True),)),
        Column("tokens/s", right=True),
        Column(_mfu(convention), right=True),
        *((Column("MBU", right=True),) if any(map(_decodes, outcomes)) else ()),
        Column("step time", right=True, unit="s", spare=True),
        Column("peak memory", right=True, unit="bytes", spare=True),
        Column("outcome", wraps=True),
    )
    return Table(
        title=f"{len(outcomes)} points" if len(outcomes) != 1 else "1 point",
        columns=columns,
        rows=tuple(_row(outcome, columns, convention) for outcome in outcomes),
        notes=_notes(outcomes),
    )


def _mfu(convention: Convention) -> str:
    return "MFU" if convention is EXACT else f"MFU ({convention.key})"


def _decodes(outcome: Outcome) -> bool:
    return outcome.record is not None and outcome.record.workload.mode == "decode"


def failures(outcomes: Sequence[Outcome]) -> Table | None:
    """The points that have no result and why; None where all have one."""
    rows = tuple(
        (outcome.point.name, outcome.failure.kind, outcome.failure.reason)
        for outcome in outcomes
        if outcome.failure
    )
    columns = (Column("point"), Column("outcome"), Column("reason", wraps=True))
    return Table(title="Points without a result", columns=columns, rows=rows) if rows else None


def document(
    outcomes: Sequence[Outcome], spec: str, convention: Convention = EXACT
) -> dict[str, Any]:
    """The JSON of a sweep: each point with its options and what became of it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "gptbench_version": __version__,
        "spec": spec,
        "points": [_documented(outcome, convention) for outcome in outcomes],
    }


def tidy(outcomes: Sequence[Outcome], convention: Convention = EXACT) -> pd.DataFrame:
    """Every derived number of every point, a row each; a failed point is one row without a value.

    The timed steps are in the points' own files.
    """
    parts = [_measured(o, convention) if o.record else _missing(o, convention) for o in outcomes]
    return pd.concat(parts, ignore_index=True)


def _are_numbers(option: str, outcomes: Sequence[Outcome]) -> bool:
    values = [o.point.written[option] for o in outcomes if option in o.point.written]
    return all(type(value) in (int, float) for value in values)


def _notes(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """How many failed, and what is to be known of the peaks; each sentence once."""
    failed = sum(outcome.failure is not None for outcome in outcomes)
    said = [f"{failed} of {len(outcomes)} points have no result."] if failed else []
    for outcome in outcomes:
        found = metrics.derive(outcome.record).caveats if outcome.record else ()
        said += [caveats.sentence(caveat) for caveat in found if caveat.code in _OF_PEAKS]
    return tuple(dict.fromkeys(said))


def _ended(outcome: Outcome, found: Metrics) -> str:
    """'done', and the codes of what disturbed it: 'done, but: stalls, few-steps'."""
    codes = [caveat.code for caveat in found.caveats if caveat.code not in _OF_PEAKS]
    return f"{outcome.status}, but: {', '.join(codes)}" if codes else outcome.status


def _row(outcome: Outcome, columns: Sequence[Column], convention: Convention) -> tuple[Cell, ...]:
    cells = {name: _cell(value) for name, value in outcome.point.written.items()}
    cells |= _results(outcome.record, outcome, convention) if outcome.record else _reason(outcome)
    return tuple(cells.get(column.name, DASH) for column in columns)


def _results(rec: Record, outcome: Outcome, convention: Convention) -> dict[str, Cell]:
    """What was measured, by the name of its column."""
    found = metrics.derive(rec, convention)
    return {
        "batch": _cell(rec.workload.batch_size),
        "tokens/s": Quantity(found.window_tokens_per_s, results.rate(found.window_tokens_per_s)),
        _mfu(convention): known(found.mfu, percent),
        "MBU": known(found.inference.mbu if found.inference else None, percent),
        "step time": Quantity(found.step_time_s.median, seconds(found.step_time_s.median)),
        "peak memory": known(rec.measurement.peak_memory_bytes, gib),
        "outcome": _ended(outcome, found),
    }


def _reason(outcome: Outcome) -> dict[str, Cell]:
    assert outcome.failure is not None
    return {"outcome": f"{outcome.failure.kind}: {outcome.failure.reason}"}


def _cell(value: str | float | bool | None) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return Quantity(value, str(value))
    return DASH if value is None else value


def _documented(outcome: Outcome, convention: Convention) -> dict[str, Any]:
    point, rec = outcome.point, outcome.record
    shared = {
        "key": point.key,
        "options": dict(point.written),
        "command": point.question.command,
        "status": outcome.status,
        "reason": outcome.failure.reason if outcome.failure else None,
    }
    if rec is None:
        return {**shared, "result": None}
    whole = metrics.document(rec, metrics.derive(rec, convention))
    result = {key: value for key, value in whole["result"].items() if key not in _IN_ITS_FILE}
    return {
        **shared,
        "file": shelf.result_file(point.key),
        "model": rec.model.name,
        "workload": to_builtins(rec.workload),
        "device": to_builtins(rec.device),
        "flops": whole["flops"],
        "result": result,
    }


def _measured(outcome: Outcome, convention: Convention) -> pd.DataFrame:
    assert outcome.record is not None
    rows = frame.measurements([outcome.record], samples=False, convention=convention)
    return _labelled(outcome, rows)


def _missing(outcome: Outcome, convention: Convention) -> pd.DataFrame:
    """One row of what was asked, and no value."""
    assert outcome.failure is not None
    asked = outcome.point.question
    row = {
        "schema_version": SCHEMA_VERSION,
        "model": asked.model,
        "mode": asked.mode,
        "dtype": "tf32" if asked.tf32 else asked.dtype,
        "attention": asked.attention,
        "recompute": asked.recompute,
        "grad_accum": asked.grad_accum,
        "compile": asked.compile,
        "batch_size": asked.batch_size,
        "seq_len": asked.seq_len,
        "convention": convention.key,
        "metric": "tokens_per_s",
        "stat": "median",
        "unit": "token/s",
        "gptbench_version": outcome.failure.gptbench_version,
        "started_at": outcome.failure.failed_at,
    }
    return _labelled(outcome, frame.of_rows([row]))


def _labelled(outcome: Outcome, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows behind the point that they are of."""
    labels = {
        "point": outcome.point.key,
        "options": outcome.point.name,
        "status": outcome.status,
        "reason": outcome.failure.reason if outcome.failure else None,
    }
    for position, (name, value) in enumerate(labels.items()):
        rows.insert(position, name, pd.Series([value] * len(rows), index=rows.index, dtype="str"))
    return rows
