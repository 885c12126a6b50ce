"""Results compared with earlier ones: benchmarks matched, changes estimated, verdicts given.

Two processes that run the same steps differ by more than their steps tell: by 4.28% (standard
deviation) on the shared machine it was measured on. So a single result a side is only as sure as
that allows, and from six results a side on their own scatter is all that counts.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gptbench import comparability, comparison, metrics, ranks, record, verdict
from gptbench.comparability import Difference
from gptbench.comparison import Comparison, Row, Side
from gptbench.errors import NotComparableError, QuestionError
from gptbench.ranks import NormalShift, Shift
from gptbench.record import Record
from gptbench.units import percent

# Standard deviation of the difference between two processes that run the same steps.
PROCESS_SD = 0.0428

# What an interval is a multiple of, at the confidence that a record's own has.
_Z = statistics.NormalDist().inv_cdf(0.5 + metrics.CONFIDENCE / 2)

# Below this the slowest and fastest step do not hold the median with 95% confidence.
FEWEST_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How sides are judged: the least change that matters, what may differ, what processes do."""

    threshold: float
    across: tuple[str, ...] = ()
    process_sd: float = PROCESS_SD


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The records of one benchmark on both sides; `differences` are the declared ones."""

    base: tuple[Record, ...]
    new: tuple[Record, ...]
    differences: tuple[Difference, ...]


def compare(base: Path, new: Path, rules: Rules) -> Comparison:
    """Hold the results under `new` to those under `base`, benchmark by benchmark.

    Raises QuestionError for a file that does not read, and NotComparableError for one of another
    schema.
    """
    before, after = _benchmarks(base, rules), _benchmarks(new, rules)
    if not before and not after:
        raise QuestionError(f"there is no result.json under '{base}', and none under '{new}'.")
    pairs: list[_Pair] = []
    rows: list[Row] = []
    for key in _joined(before, after):
        found = _matched(before.get(key[0], ()), after.get(key[1], ()), rules, (base, new))
        if isinstance(found, Row):
            rows.append(found)
        else:
            pairs.append(found)
    return Comparison(
        base=str(base),
        new=str(new),
        rows=(*_judged(pairs, rules), *rows),
        threshold=rules.threshold,
        across=rules.across,
        notes=_notes(pairs, rules),
    )


_Key = tuple[tuple[str, object], ...]


def _benchmarks(path: Path, rules: Rules) -> dict[_Key, tuple[Record, ...]]:
    """The records under a path by benchmark; none where there is no such path."""
    files = sorted(path.rglob("result.json")) if path.is_dir() else [path]
    found: dict[_Key, tuple[Record, ...]] = {}
    for file in files if path.exists() else ():
        rec = _read(file)
        key = comparability.benchmark(rec, rules.across)
        found[key] = (*found.get(key, ()), rec)
    return found


def _read(file: Path) -> Record:
    try:
        return record.read(file)
    except QuestionError as error:
        other = _other_schema(file)
        if other is None:
            raise
        raise NotComparableError(
            f"'{file}' has schema_version {other!r}, and this gptbench reads "
            f"{record.SCHEMA_VERSION}: what the other side says cannot be held to it. Measure it "
            "again with this version."
        ) from error


def _other_schema(file: Path) -> object:
    """The version of a result that is not ours; None of what is no result at all."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    version = document.get("schema_version") if isinstance(document, dict) else None
    return None if version == record.SCHEMA_VERSION else version


def _joined(before: Mapping[_Key, object], after: Mapping[_Key, object]) -> list[tuple[_Key, _Key]]:
    """Which benchmark of one side is held to which of the other: the same, or what is left alone.

    Where each side has one that the other lacks, somebody meant them for each other.
    """
    lost = [key for key in before if key not in after]
    gained = [key for key in after if key not in before]
    if len(lost) == len(gained) == 1:
        gained_by = {lost[0]: gained[0]}
        return [(key, gained_by.get(key, key)) for key in before]
    return [(key, key) for key in (*before, *gained)]


def _matched(
    base: Sequence[Record], new: Sequence[Record], rules: Rules, paths: tuple[Path, Path]
) -> _Pair | Row:
    """The pair to be judged, or the row that says why there is none."""
    if not base or not new:
        return _missing(base, new, paths)
    before, after = [comparability.facts(r) for r in base], [comparability.facts(r) for r in new]
    for name, side in (("base", before), ("new side", after)):
        mixed = comparability.mixed(side)
        if mixed:
            reason = f"the results of the {name} are no replicates: {'; '.join(mixed)}"
            return _incomparable(base, new, reason)
    differences = comparability.differences(before, after)
    undeclared = comparability.undeclared(differences, rules.across)
    if undeclared:
        return _incomparable(base, new, undeclared)
    return _Pair(base=tuple(base), new=tuple(new), differences=differences)


def _missing(base: Sequence[Record], new: Sequence[Record], paths: tuple[Path, Path]) -> Row:
    lacks = paths[0] if not base else paths[1]
    what = "no baseline" if not base else "nothing new to hold to it"
    there = "has no such benchmark" if lacks.exists() else "is not there"
    return _incomparable(base, new, f"{what}: '{lacks}' {there}")


def _incomparable(base: Sequence[Record], new: Sequence[Record], reason: str) -> Row:
    return Row(
        base=_side(base) if base else None,
        new=_side(new) if new else None,
        verdict="INCOMPARABLE",
        reason=reason,
    )


def _side(records: Sequence[Record]) -> Side:
    first = records[0]
    times = [metrics.derive(r).step_time_s.median for r in records]
    return Side(
        model=first.model,
        workload=first.workload,
        device=first.device.name,
        step_time_s=statistics.geometric_mean(times),
        process_step_times_s=tuple(times),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """What the processes of one side say, each in the logarithm of its median time per token.

    `within` is the variance that their mean has from within the runs: infinite of too few steps.
    """

    log_times: tuple[float, ...]
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """How far the new side lies from the base, and the words for how that was come by."""

    shift: Shift
    method: str


def _judged(pairs: Sequence[_Pair], rules: Rules) -> tuple[Row, ...]:
    """A row a pair; verdicts of a change hold for all of them together (Holm)."""
    # Ranks must be able to be as sure as the most doubtful of the family has to be.
    strictest = verdict.ALPHA / max(1, len(pairs))
    found = [_estimate(_runs(p.base), _runs(p.new), rules.process_sd, strictest) for p in pairs]
    levels = verdict.holm([each.shift.p_value for each in found])
    return tuple(
        _row(pair, each, level, rules)
        for pair, each, level in zip(pairs, found, levels, strict=True)
    )


def _row(pair: _Pair, found: _Estimate, level: float, rules: Rules) -> Row:
    word = verdict.decide(found.shift, rules.threshold, level, verdict.ALPHA)
    change = comparison.judged(found.shift, method=found.method, level=level)
    reason = comparison.why(word, change, rules.threshold)
    if not math.isfinite(change.high):
        reason = f"an interval needs {FEWEST_STEPS} steps a result. Measure longer"
    return Row(
        base=_side(pair.base),
        new=_side(pair.new),
        verdict=word,
        reason=reason,
        change=change,
        least_change=rules.threshold,
        differences=pair.differences,
    )


def _estimate(base: _Runs, new: _Runs, process_sd: float, level: float) -> _Estimate:
    """By ranks where the processes are enough for the level, else with what is allowed for them."""
    m, n = len(base.log_times), len(new.log_times)
    by_rank = ranks.rank_sum(base.log_times, new.log_times)
    enough = min(m, n) >= ranks.fewest_pairs(verdict.ALPHA)
    if enough and math.isfinite(by_rank.interval(level)[1]):
        return _Estimate(shift=by_rank, method=f"{m} and {n} processes, by their own scatter")
    # The stated deviation is one of a difference: that of a single process is smaller by √2.
    allowed = max(process_sd**2 / 2, _observed(base, new)) * (1 / m + 1 / n)
    middle = statistics.fmean(new.log_times) - statistics.fmean(base.log_times)
    processes = "one process a side" if m == n == 1 else f"{m} and {n} processes"
    return _Estimate(
        shift=NormalShift(middle, math.sqrt(allowed + base.within + new.within)),
        method=f"{processes}, which may differ by {percent(process_sd, 2)} (sd)",
    )


def _runs(records: Sequence[Record]) -> _Runs:
    logs, variances = [], []
    for rec in records:
        taken = metrics.derive(rec).step_time_s
        logs.append(math.log(taken.median / rec.workload.tokens))
        told = taken.n >= FEWEST_STEPS
        variances.append((math.log(taken.high / taken.low) / 2 / _Z) ** 2 if told else math.inf)
    return _Runs(log_times=tuple(logs), within=sum(variances) / len(records) ** 2)


def _observed(base: _Runs, new: _Runs) -> float:
    """The variance between the processes of a side, as they themselves show it."""
    freedom = len(base.log_times) + len(new.log_times) - 2
    if freedom == 0:
        return 0.0
    sides = (base.log_times, new.log_times)
    return sum(statistics.pvariance(side) * len(side) for side in sides) / freedom


def _notes(pairs: Sequence[_Pair], rules: Rules) -> tuple[str, ...]:
    notes = []
    needed = ranks.fewest_each(verdict.ALPHA / max(1, len(pairs)))
    needed = max(needed, ranks.fewest_pairs(verdict.ALPHA))
    few = [p for p in pairs if min(len(p.base), len(p.new)) < needed]
    if few:
        notes.append(
            f"Two processes that run the same steps may differ by {percent(rules.process_sd, 2)} "
            f"(standard deviation; --process-sd states another), and the intervals allow for it. "
            f"With {needed} results a side their own scatter decides, and 'compare --run' "
            "measures both in turns."
        )
    if len(pairs) > 1:
        notes.append(
            f"The verdicts of a change hold for all {len(pairs)} benchmarks together with "
            f"{percent(1 - verdict.ALPHA, 0)} confidence (Holm)."
        )
    return tuple(notes)
