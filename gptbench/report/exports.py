"""Results in the formats of other people's dashboards, which draw them over time.

github   github-action-benchmark, tool customBiggerIsBetter: a list of {name, unit, value, range,
         extra} (its README, "Custom benchmarks"). All of them are better the larger they are.
bencher  Bencher Metric Format: {benchmark: {measure: {value, lower_value, upper_value}}}
         (bencher.dev, docs/reference/bencher-metric-format).

Results of the same model, workload and device are runs of one benchmark: its value is the median of
the runs, its bounds are the slowest and the fastest run. Of a single run they are the interval
within it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gptbench import metrics
from gptbench.conventions import EXACT, Convention
from gptbench.errors import QuestionError, UnknownNameError
from gptbench.record import Record
from gptbench.report import words
from gptbench.stats import Interval

# The longest name of a benchmark that Bencher takes.
LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number of a benchmark, what it is called there, and its bounds where it has some."""

    name: str
    unit: str
    value: float
    low: float | None = None
    high: float | None = None


def github(records: Sequence[Record], convention: Convention = EXACT) -> list[dict[str, Any]]:
    """What github-action-benchmark reads: tokens/s, and MFU in percent where it is known."""
    return [
        entry
        for name, runs in _benchmarks(records).items()
        for entry in _entries(name, runs, convention)
    ]


def bencher(records: Sequence[Record], convention: Convention = EXACT) -> dict[str, Any]:
    """What Bencher reads: four measures, each in the base unit that its name says."""
    return {
        name: {measure.name: _metric(measure) for measure in _measures(runs, convention)}
        for name, runs in _benchmarks(records).items()
    }


KINDS: Mapping[str, Callable[[Sequence[Record], Convention], Any]] = {
    "github": github,
    "bencher": bencher,
}


def parse(text: str) -> tuple[str, Path]:
    """('github', Path('bench.json')) of 'github=bench.json'. Raises QuestionError otherwise."""
    kind, equals, path = text.partition("=")
    if not equals or not path:
        raise QuestionError(
            f"--export {text!r} is no KIND=FILE. Type one such as github=bench.json."
        )
    if kind not in KINDS:
        raise UnknownNameError("kind of export", kind, KINDS, f"Known: {', '.join(KINDS)}.")
    if not Path(path).parent.is_dir():
        raise QuestionError(f"--export {text!r}: there is no folder '{Path(path).parent}'.")
    return kind, Path(path)


def _benchmarks(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of each benchmark by its name, which has the device only where there are several.

    So a history goes on where the next machine calls its processor by another name.
    """
    several = len({rec.device.name for rec in records}) > 1
    found: dict[str, list[Record]] = {}
    for rec in records:
        name = f"{rec.model.name}: {words.workload(rec.workload)}"
        name = f"{name}, on {rec.device.name}" if several else name
        found.setdefault(name[:LONGEST_NAME], []).append(rec)
    return found


def _measures(runs: Sequence[Record], convention: Convention) -> list[Measure]:
    """Speeds of the median step, by which runs are compared; then what is known of the rest."""
    derived = [metrics.derive(rec, convention) for rec in runs]
    measures = [
        _of_intervals("tokens-per-s", "tokens/s", [each.tokens_per_s for each in derived]),
        _of_intervals("step-time-s", "s", [each.step_time_s for each in derived]),
        _of_values("mfu", "1", [each.mfu for each in derived]),
        _of_values("peak-memory-bytes", "B", [rec.measurement.peak_memory_bytes for rec in runs]),
    ]
    return [measure for measure in measures if measure is not None]


def _of_intervals(name: str, unit: str, found: Sequence[Interval]) -> Measure | None:
    if len(found) > 1:
        return _of_values(name, unit, [each.median for each in found])
    only = found[0]
    return Measure(name=name, unit=unit, value=only.median, low=only.low, high=only.high)


def _of_values(name: str, unit: str, values: Sequence[float | None]) -> Measure | None:
    """The median of the runs, from the least to the most; None where one of them is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if len(known) == 1:
        return Measure(name=name, unit=unit, value=known[0])
    return Measure(name=name, unit=unit, value=median(known), low=min(known), high=max(known))


def _metric(measure: Measure) -> dict[str, float]:
    bounds = {"lower_value": measure.low, "upper_value": measure.high}
    return {"value": measure.value} | {k: v for k, v in bounds.items() if v is not None}


def _entries(name: str, runs: Sequence[Record], convention: Convention) -> list[dict[str, Any]]:
    extra = _extra(runs, convention)
    measures = {measure.name: measure for measure in _measures(runs, convention)}
    shown = (("tokens-per-s", "tokens/s", "tokens/s", 1), ("mfu", "MFU", "%", 100))
    return [
        {
            "name": f"{name}, {title}",
            "unit": unit,
            "value": scale * measures[key].value,
            **_range(measures[key], scale),
            "extra": extra,
        }
        for key, title, unit, scale in shown
        if key in measures
    ]


def _range(measure: Measure, scale: int) -> dict[str, str]:
    """The larger half of the bounds: the dashboard knows symmetric ranges alone."""
    if measure.low is None or measure.high is None:
        return {}
    half = scale * max(measure.value - measure.low, measure.high - measure.value)
    return {"range": f"± {half:.6g}"}


def _extra(runs: Sequence[Record], convention: Convention) -> str:
    """What the dashboard shows where one points at a value."""
    first = runs[0]
    facts = {
        "runs": str(len(runs)),
        "device": first.device.name,
        "peak": first.device.peak_source,
        "FLOPs": convention.key,
        "gptbench": first.gptbench_version,
        "torch": str(first.environment.get("torch", "unknown")),
        "started": first.started_at,
    }
    return "\n".join(f"{name}: {value}" for name, value in facts.items())
