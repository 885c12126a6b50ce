"""The page of many results: what changed, each benchmark over time, and every result with its page."""

from collections.abc import Sequence
from pathlib import Path

from gptbench import __version__
from gptbench.conventions import Convention
from gptbench.history import History, Series
from gptbench.report import delimited, entries, runs, trend_plot, trends
from gptbench.report.comparisons import signed
from gptbench.report.figures import style
from gptbench.report.pages.parts import Chart, Number, csv_file, render

# A chart takes about 20 kB and 50 ms: those with a change come first, then those with most results.
MOST_CHARTS = 30


def page(
    history: History,
    convention: Convention,
    folder: Path,
) -> str:
    """The whole page, to be written into a folder; the same files give the same bytes."""
    drawn = _drawn(history)
    newest = trends.newest(history, convention, trends.MOST_ROWS, folder)
    rows = _rows_of_each([len(history.series[i - 1].points) for i in drawn], trends.MOST_ROWS)
    with style():
        charts = [
            _trend(f"trend-{i}", history.series[i - 1], convention, most)
            for i, most in zip(drawn, rows, strict=True)
        ]
    several = sum(len(series.points) > 1 for series in history.series)
    return render(
        "index.html.j2",
        title=_title(history),
        summary=_summary(history),
        numbers=_numbers(history),
        changes=trends.changes(history),
        benchmarks=trends.benchmarks(history, convention, {i: f"#trend-{i}" for i in drawn})
        if history.series
        else None,
        trends=list(zip(drawn, charts, strict=True)),
        undrawn=several - len(drawn),
        results=newest if history.series else None,
        profiles=entries.profiled(history.profiles, folder) if history.profiles else None,
        trainings=entries.trained(history.trainings, folder) if history.trainings else None,
        lost=trends.lost(history.lost) if history.lost else None,
        data=csv_file("results.csv", delimited.table_csv(newest)) if history.series else None,
        data_note="A row a result of this page; every number of each is in the result.csv beside it.",
        version=__version__,
    )


def _drawn(history: History) -> list[int]:
    """The numbers of the benchmarks that have a chart, from 1, in their order."""
    several = [i for i, series in enumerate(history.series, 1) if len(series.points) > 1]

    def rank(number: int) -> tuple[bool, int]:
        series = history.series[number - 1]
        return not series.changes, -len(series.points)

    return sorted(sorted(several, key=rank)[:MOST_CHARTS])


def _rows_of_each(wanted: Sequence[int], most: int) -> list[int]:
    """Rows of data for each chart: what few want is left to those that want more."""
    given = [0] * len(wanted)
    for done, at in enumerate(sorted(range(len(wanted)), key=lambda at: wanted[at])):
        given[at] = min(wanted[at], (most - sum(given)) // (len(wanted) - done))
    return given


def _trend(name: str, series: Series, convention: Convention, most: int) -> Chart:
    newest = series.newest
    first, last = trends.moment(series.first.moment), trends.moment(newest.moment)
    return Chart(
        heading=trends.name(newest.record),
        svg=trend_plot.trend(series, f"{name}-chart"),
        caption=f"{trends.device(newest.record)}. {len(series.points)} results from {first} to "
        f"{last} UTC.",
        data=trends.points(series, convention, most),
        name=f"{name}.csv",
    )


def _title(history: History) -> str:
    found = {
        "result": len(history.points),
        "profile": len(history.profiles),
        "training": len(history.trainings),
    }
    counts = [entries.counted(n, word) for word, n in found.items() if n]
    return ", ".join(counts) or "No result"


def _summary(history: History) -> str:
    """What changed last, or that nothing did."""
    if not history.series:
        return f"{_title(history)}, and no result to draw over time."
    changed = [(series, series.changes[-1]) for series in history.series if series.changes]
    span = entries.counted(len(history.series), "benchmark")
    if not changed:
        long = any(len(series.points) > 1 for series in history.series)
        return (
            f"{span}, none of which changed its level." if long else f"{span}, each measured once."
        )
    series, change = max(changed, key=lambda pair: pair[0].points[pair[1].at].moment)
    since = trends.moment(series.points[change.at].moment)[:10]
    return (
        f"{len(changed)} of {span} changed {'its' if len(changed) == 1 else 'their'} level; the last "
        f"was {trends.name(series.newest.record)}, {signed(change.ratio - 1)} {runs.rate(series.newest.record)} "
        f"since {since}."
    )


def _numbers(history: History) -> tuple[Number, ...]:
    points = history.points
    changes = sum(len(series.changes) for series in history.series)
    numbers = []
    if points:
        span = f"from {trends.moment(points[-1].moment)} to {trends.moment(points[0].moment)} UTC"
        numbers.append(Number("results", f"{len(points):,}", span))
        benchmarks = f"{len(history.series):,}"
        numbers.append(Number("benchmarks", benchmarks, "of one model, workload and device each"))
        numbers.append(Number("changes of level", f"{changes:,}", "told, and no verdict"))
    if history.lost:
        numbers.append(Number("without a result", f"{len(history.lost):,}", "listed at the end"))
    return tuple(numbers)
