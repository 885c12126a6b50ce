"""Results in the formats of other people's dashboards, which draw them over time.

github   github-action-benchmark, tool customBiggerIsBetter: a list of {name, unit, value, range,
         extra} (its README, "Custom benchmarks"). All of them are better the larger they are.
bencher  Bencher Metric Format: {benchmark: {measure: {value, lower_value, upper_value}}}
         (bencher.dev, docs/reference/bencher-metric-format).

Results of the same model, workload and device are runs of one benchmark: its value is the median of
the runs, its bounds are the slowest and the fastest run. Of a single run they are the interval
within it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from gptbench import metrics
from gptbench.conventions import EXACT, Convention
from gptbench.errors import QuestionError, UnknownNameError
from gptbench.metrics import Metrics
from gptbench.record import Record
from gptbench.report import words

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
    derived = [metrics.derive(rec, convention) for rec in runs]
    held = [rec.measurement.peak_memory_bytes for rec in runs]
    found = [
        _speed(derived),
        _of_runs("step-time-s", "s", (each.step_time_s.median for each in derived)),
        _of_runs("mfu", "1", (each.mfu for each in derived)),
        _of_runs("peak-memory-bytes", "B", held),
    ]
    return [measure for measure in found if measure is not None]


def _speed(derived: Sequence[Metrics]) -> Measure:
    """Tokens/s of the median step, which is what two runs are compared by."""
    first = derived[0].tokens_per_s
    speeds = [each.tokens_per_s.median for each in derived]
    single = len(speeds) == 1
    return Measure(
        name="tokens-per-s",
        unit="tokens/s",
        value=median(speeds),
        low=first.low if single else min(speeds),
        high=first.high if single else max(speeds),
    )


def _of_runs(name: str, unit: str, values: Iterable[float | None]) -> Measure | None:
    """The median of the runs, from the least to the most; None where one of them is unknown."""
    known = list(values)
    if any(value is None for value in known):
        return None
    numbers = [value for value in known if value is not None]
    if len(numbers) == 1:
        return Measure(name=name, unit=unit, value=numbers[0])
    return Measure(name=name, unit=unit, value=median(numbers), low=min(numbers), high=max(numbers))


def _metric(measure: Measure) -> dict[str, float]:
    bounds = {"lower_value": measure.low, "upper_value": measure.high}
    return {"value": measure.value} | {k: v for k, v in bounds.items() if v is not None}


def _entries(
    name: str, runs: Sequence[Record], convention: Convention
) -> Iterable[dict[str, float | str]]:
    for measure in _measures(runs, convention):
        if measure.name not in ("tokens-per-s", "mfu"):
            continue
        shown = "tokens/s" if measure.name == "tokens-per-s" else "MFU"
        scale, unit = (1, measure.unit) if measure.name == "tokens-per-s" else (100, "%")
        entry: dict[str, float | str] = {
            "name": f"{name}, {shown}",
            "unit": unit,
            "value": scale * measure.value,
        }
        if measure.low is not None and measure.high is not None:
            # The larger half: the dashboard knows symmetric ranges alone.
            half = scale * max(measure.value - measure.low, measure.high - measure.value)
            entry["range"] = f"± {half:.6g}"
        yield {**entry, "extra": _extra(runs, convention)}


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
