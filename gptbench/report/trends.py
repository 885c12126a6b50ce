"""The results of an archive over time: benchmarks, changes of level, single results, what is lost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from gptbench import __version__, documents, trainrecord
from gptbench.archive import RESULT, Lost
from gptbench.comparability import device_name
from gptbench.conventions import EXACT, Convention
from gptbench.history import Change, History, Point, Series
from gptbench.levels import LEAST_CHANGE, MOST, SHORTEST
from gptbench.metrics import CONFIDENCE
from gptbench.record import SCHEMA_VERSION, Record
from gptbench.report import frame, results, runs
from gptbench.report.comparisons import signed
from gptbench.report.entries import counted, linked
from gptbench.report.table import DASH, Cell, Column, Link, Quantity, Table, count, known
from gptbench.units import gib, percent

# Name and meaning of each column before those of `frame.COLUMNS`.
COLUMNS: dict[str, str] = {
    "file": "the result's file, from the folder that was asked for",
    "benchmark": "number of the benchmark, from 1: same model, workload, device and CPU threads",
    "level": "number of the level of its benchmark's speed, from 1; empty where none was looked for",
}

# A terminal shows so many of the newest results, a page so many.
NEWEST = 20
MOST_ROWS = 1000

HOW = (
    f"A level is a run of {SHORTEST} results or more whose median speed is {percent(LEAST_CHANGE, 0)} or "
    "more from that of the run before, by an L1-Potts fit that pays for each cut. It is told, and "
    "never a verdict: results that resemble their neighbours, as of a machine that drifts, show "
    "levels too. 'gptbench compare' judges."
)


def moment(at: datetime) -> str:
    """'2026-01-02 03:04', in UTC."""
    return f"{at:%Y-%m-%d %H:%M}"


def name(rec: Record) -> str:
    """The benchmark of a record: its model and workload."""
    return f"{rec.model.name}, {runs.setting(rec)}"


def device(rec: Record) -> str:
    """The device of a benchmark, with the threads of a CPU."""
    threads = rec.environment.get("threads") if rec.device.kind == "cpu" else None
    return device_name(rec) if threads is None else f"{device_name(rec)}, {threads} threads"


@dataclass(frozen=True, slots=True)
class _Devices:
    """Where the rows of a table are from: a column of several devices, a word in the title of one."""

    only: str | None

    @property
    def said(self) -> str:
        return f" on {self.only}" if self.only else ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return () if self.only else (Column("device", wraps=True),)

    def cells(self, rec: Record) -> tuple[Cell, ...]:
        return () if self.only else (device(rec),)


def _devices(records: Sequence[Record]) -> _Devices:
    found = {device(rec) for rec in records}
    return _Devices(found.pop() if len(found) == 1 else None)


def benchmarks(
    history: History, convention: Convention, charts: Mapping[int, str] | None = None
) -> Table:
    """A row a benchmark: its newest result, its level, and the change to it.

    `charts` are the places of charts on a page, by the number of their benchmark from 1.
    """
    newest = [series.newest.record for series in history.series]
    where = _devices(newest)
    return Table(
        title=f"{counted(len(history.series), 'benchmark')}{where.said}",
        columns=(
            Column("benchmark", wraps=True),
            *where.columns,
            Column("results", right=True),
            Column("newest", right=True),
            Column(_rates(newest), right=True),
            Column(_mfu(convention), right=True),
            Column("level", right=True, spare=True),
            Column("change", right=True),
        ),
        rows=tuple(
            _benchmark(series, where, (charts or {}).get(number))
            for number, series in enumerate(history.series, 1)
        ),
    )


def _benchmark(series: Series, where: _Devices, chart: str | None) -> tuple[Cell, ...]:
    newest, change = series.newest, series.changes[-1] if series.changes else None
    return (
        Link(name(newest.record), chart) if chart else name(newest.record),
        *where.cells(newest.record),
        count(len(series.points)),
        moment(newest.moment)[:10],
        _rate(newest.metrics.tokens_per_s.median),
        known(newest.metrics.mfu, percent),
        _rate(series.levels[-1].median),
        known(change.ratio - 1 if change else None, signed),
    )


def changes(history: History) -> Table:
    """The changes of level of all benchmarks, the newest first, with what changed there."""
    found = sorted(
        ((series, change) for series in history.series for change in series.changes),
        key=lambda pair: pair[0].points[pair[1].at].moment,
        reverse=True,
    )
    changed = [series.newest.record for series, _ in found]
    where, unit = _devices(changed), _rates(changed)
    return Table(
        title=f"{counted(len(found), 'change of level', 'changes of level')}{where.said}",
        columns=(
            Column("from (UTC)", right=True),
            Column("benchmark", wraps=True),
            *where.columns,
            Column("before", right=True, unit=unit),
            Column("after", right=True, unit=unit),
            Column("change", right=True),
            Column("what differs", wraps=True),
        ),
        rows=tuple(_change(series, change, where) for series, change in found),
        notes=(HOW, *_cut_off(history)),
    )


def _change(series: Series, change: Change, where: _Devices) -> tuple[Cell, ...]:
    before, after = next(
        (a, b)
        for a, b in zip(series.levels, series.levels[1:], strict=False)
        if b.start == change.at
    )
    rec = series.newest.record
    return (
        moment(series.points[change.at].moment),
        name(rec),
        *where.cells(rec),
        _rate(before.median),
        _rate(after.median),
        Quantity(change.ratio - 1, signed(change.ratio - 1)),
        "; ".join(change.differences) or "nothing that the records tell",
    )


def _cut_off(history: History) -> tuple[str, ...]:
    if all(len(series.points) <= MOST for series in history.series):
        return ()
    return (f"Of a benchmark with more results the newest {MOST:,} are looked at.",)


def newest(
    history: History, convention: Convention, most: int, folder: Path | None = None
) -> Table:
    """A row a result, the newest first; with a folder each links to its own page from there."""
    points = history.points
    where = _devices([point.record for point in points])
    shown, left = points[:most], points[most:]
    return Table(
        title=f"{f'Newest {len(shown):,} of ' if left else ''}{counted(len(points), 'result')}"
        f"{where.said}",
        columns=(
            Column("result"),
            Column("started (UTC)", right=True),
            Column("benchmark", wraps=True),
            *where.columns,
            Column(_rates([point.record for point in points]), right=True),
            Column("from", right=True, spare=True),
            Column("to", right=True, spare=True),
            Column(_mfu(convention), right=True),
            Column("peak memory", right=True, unit="bytes", spare=True),
            Column("torch", spare=True),
            Column("but", wraps=True),
        ),
        rows=tuple(_result(point, where, folder) for point in shown),
        notes=(
            f"From, to: the {percent(CONFIDENCE, 0)} interval within the run.",
            *_older(len(left)),
        ),
    )


def _result(point: Point, where: _Devices, folder: Path | None) -> tuple[Cell, ...]:
    rec, found = point.record, point.metrics
    return (
        linked(point.filed, RESULT, "report.html", folder),
        moment(point.moment),
        name(rec),
        *where.cells(rec),
        _rate(found.tokens_per_s.median),
        known(found.tokens_per_s.low, results.rate),
        known(found.tokens_per_s.high, results.rate),
        known(found.mfu, percent),
        known(rec.measurement.peak_memory_bytes, gib),
        str(rec.environment.get("torch", DASH)),
        ", ".join(caveat.code for caveat in found.caveats),
    )


def points(series: Series, convention: Convention, most: int) -> Table:
    """What the chart of a benchmark draws, the newest first."""
    rows: list[tuple[Cell, ...]] = []
    for level, point in zip(_levels(series), series.points, strict=True):
        speed = point.metrics.tokens_per_s
        rows.append(
            (
                moment(point.moment),
                _rate(speed.median),
                known(speed.low, results.rate),
                known(speed.high, results.rate),
                known(point.metrics.mfu, percent),
                known(level, lambda number: f"{number:.0f}"),
            )
        )
    return Table(
        title=name(series.newest.record),
        columns=(
            Column("started (UTC)", right=True),
            Column(runs.rate(series.newest.record), right=True),
            Column("from", right=True),
            Column("to", right=True),
            Column(_mfu(convention), right=True),
            Column("level", right=True),
        ),
        rows=tuple(rows[::-1][:most]),
        notes=_older(len(rows) - most),
    )


def _older(left: int) -> tuple[str, ...]:
    """Where the results are that a table has no room for."""
    return (f"{left:,} older ones are in result.csv (--out DIR).",) if left > 0 else ()


def _levels(series: Series) -> list[int | None]:
    """The number of each point's level; None of those that were not looked at."""
    numbers: list[int | None] = [None] * series.levels[0].start
    for number, level in enumerate(series.levels, 1):
        numbers += [number] * (level.end - level.start)
    return numbers


def lost(gone: Sequence[Lost]) -> Table:
    """The files that have no result, and why."""
    return Table(
        title=f"{counted(len(gone), 'file')} without a result",
        columns=(Column("file"), Column("outcome"), Column("reason", wraps=True)),
        rows=tuple((one.name, one.kind, one.reason) for one in gone),
    )


def tidy(history: History) -> Iterator[dict[str, Any]]:
    """The rows of result.csv: every derived number of every result, the newest benchmark last."""
    for number, series in enumerate(history.series, 1):
        for level, point in zip(_levels(series), series.points, strict=True):
            label = {"file": point.filed.name, "benchmark": number, "level": level}
            for row in frame.rows(point.record, point.metrics, samples=False):
                yield {**label, **row}


def document(history: History, convention: Convention) -> dict[str, Any]:
    """The JSON of an index: each benchmark with its results and levels, and what is lost."""
    return {
        "schema_version": SCHEMA_VERSION,
        "gptbench_version": __version__,
        "convention": convention.key,
        "benchmarks": [_documented(series) for series in history.series],
        "profiles": [
            {"file": one.name, "started_at": one.value.started_at, "model": one.value.model.name}
            for one in history.profiles
        ],
        "trainings": [
            {
                "file": one.name,
                "started_at": one.value.started_at,
                "model": one.value.model.name,
                **documents.to_builtins(trainrecord.derive(one.value)),
            }
            for one in history.trainings
        ],
        "lost": [
            {"name": one.name, "kind": one.kind, "reason": one.reason} for one in history.lost
        ],
    }


def _documented(series: Series) -> dict[str, Any]:
    rec = series.newest.record
    return {
        "model": rec.model.name,
        "workload": documents.to_builtins(rec.workload),
        "device": device(rec),
        "levels": [
            {
                "from": series.points[level.start].record.started_at,
                "results": level.end - level.start,
                "tokens_per_s": level.median,
            }
            for level in series.levels
        ],
        "changes": [
            {
                "from": series.points[change.at].record.started_at,
                "change": change.ratio - 1,
                "differences": list(change.differences),
            }
            for change in series.changes
        ],
        "results": [_point(point) for point in series.points],
    }


def _point(point: Point) -> dict[str, Any]:
    speed = point.metrics.tokens_per_s
    return {
        "file": point.filed.name,
        "started_at": point.record.started_at,
        "tokens_per_s": {"median": speed.median, "ci_low": speed.low, "ci_high": speed.high},
        "mfu": point.metrics.mfu,
        "caveats": [caveat.code for caveat in point.metrics.caveats],
    }


def _rate(per_s: float) -> Quantity:
    return Quantity(per_s, results.rate(per_s))


def _rates(records: Sequence[Record]) -> str:
    return " or ".join(dict.fromkeys(map(runs.rate, records)))


def _mfu(convention: Convention) -> str:
    return "MFU" if convention is EXACT else f"MFU ({convention.key})"
