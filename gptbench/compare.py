"""Results compared with earlier ones: benchmarks matched, changes estimated, verdicts given.

A single result a side is only as sure as two processes are alike. From six results a side on their
own scatter is all that counts, and where they were measured in turns, pair by pair.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gptbench import (
    archive,
    comparability,
    comparison,
    controls,
    device,
    estimates,
    metrics,
    ranks,
    settings,
    trust,
    verdict,
)
from gptbench.archive import Lost
from gptbench.comparability import Difference
from gptbench.comparison import Comparison, Control, Row, Side
from gptbench.device import Device
from gptbench.errors import NotComparableError, QuestionError, UnknownSchemaError
from gptbench.estimates import Estimate
from gptbench.profiling import Profile
from gptbench.record import Record
from gptbench.units import percent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How sides are judged: the least change that matters, what may differ, what processes do.

    Where results are `paired`, those at the same place under both folders were measured in turns.
    `base_again` then may have results of the base at the same places: its control.
    """

    threshold: float
    across: tuple[str, ...] = ()
    process_sd: float = estimates.PROCESS_SD
    paired: bool = False
    base_again: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The records of one benchmark on both sides; `differences` are the declared ones.

    `base_again` has the control's, pair by pair, where there is one.
    """

    base: tuple[Record, ...]
    new: tuple[Record, ...]
    differences: tuple[Difference, ...]
    base_again: tuple[Record, ...] = ()


_Key = tuple[tuple[str, object], ...]

# The records of a benchmark by the place of each under its side's own folder.
_Placed = Mapping[str, Record]


def compare(base: Path, new: Path, rules: Rules) -> Comparison:
    """Hold the results under `new` to those under `base`, benchmark by benchmark.

    Results are found as 'gptbench report' finds them, and judged by today's peaks. Raises
    QuestionError for a file that does not read, and NotComparableError for one of a schema that is
    not known here.
    """
    if not new.exists():
        raise QuestionError(f"there is no '{new}'. Type the result.json of a run, or its folder.")
    before, after = _benchmarks(base, rules), _benchmarks(new, rules)
    again = _benchmarks(rules.base_again, rules) if rules.base_again else {}
    if not before and not after:
        raise QuestionError(f"there is no result under '{base}', and none under '{new}'.")
    pairs: list[_Pair] = []
    rows: list[Row] = []
    for mine, theirs in _joined(before, after):
        if mine not in before:
            rows.append(_only_new(after[theirs], base, _lost(before, after)))
        elif theirs not in after:
            rows.append(_only_base(before[mine], new, _lost(after, before)))
        else:
            found = _matched(before[mine], after[theirs], rules)
            if isinstance(found, _Pair) and rules.base_again:
                found = _controlled(found, before[mine], again.get(mine, {}), rules)
            if isinstance(found, Row):
                rows.append(found)
            else:
                pairs.append(found)
    judged = _judged(pairs, rules)
    return Comparison(
        base=str(base),
        new=str(new),
        rows=(*judged, *rows),
        threshold=rules.threshold,
        across=rules.across,
        notes=(*_notes(pairs, rules), *_cautions(judged, rules), *_doubts(pairs, base, new)),
    )


def _benchmarks(path: Path, rules: Rules) -> dict[_Key, dict[str, Record]]:
    """The records under a path by benchmark; none where there is no such path."""
    found: dict[_Key, dict[str, Record]] = {}
    try:
        for place, rec in _placed(path):
            found.setdefault(comparability.benchmark(rec, rules.across), {})[place] = rec
    except UnknownSchemaError as error:
        raise NotComparableError(
            f"{error} What the other side says cannot be held to it."
        ) from error
    return found


def _placed(path: Path) -> Iterator[tuple[str, Record]]:
    """The records at a path, each with its place there.

    The place of a result.json is its folder, and of any other file its own name. A point of a sweep
    that failed is none: its benchmark is one that this side lacks.
    """
    if not path.exists():
        return
    rows = device.table()
    if not path.is_dir():
        yield ".", _read(path, rows)
        return
    for one in archive.under(path, rows):
        if isinstance(one, Lost):
            if one.error is not None:
                raise one.error
        elif isinstance(one.value, Record):
            folder, _, file = one.name.rpartition("/")
            yield (folder or ".") if file == archive.RESULT else one.name, one.value


def _read(file: Path, rows: Iterable[Device]) -> Record:
    found = archive.read(file, rows)
    if not isinstance(found, Record):
        what = "profile" if isinstance(found, Profile) else "training"
        raise QuestionError(f"'{file}' is a {what}. Type the result.json of a run, or its folder.")
    return found


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


def _lost(side: Mapping[_Key, _Placed], other: Mapping[_Key, _Placed]) -> list[Record]:
    """A record of each benchmark that the other side lacks."""
    return [next(iter(of.values())) for key, of in side.items() if key not in other]


def _matched(base: _Placed, new: _Placed, rules: Rules) -> _Pair | Row:
    """The pair to be judged, or the row that says why there is none."""
    mine, theirs = tuple(base.values()), tuple(new.values())
    before, after = _facts(mine), _facts(theirs)
    for name, side in (("base", before), ("new side", after)):
        mixed = comparability.mixed(side)
        if mixed:
            reason = f"the results of the {name} are no replicates: {'; '.join(mixed)}"
            return _incomparable(mine, theirs, reason)
    differences = comparability.differences(before, after)
    undeclared = comparability.undeclared(differences, rules.across)
    if undeclared:
        return _incomparable(mine, theirs, undeclared)
    alone = sorted(base.keys() ^ new.keys()) if rules.paired else ()
    if alone:
        names = ", ".join(f"'{place}'" for place in alone)
        reason = f"{names} is on one side only, and --paired holds each result to its like"
        return _incomparable(mine, theirs, reason)
    theirs = tuple(new[place] for place in base) if rules.paired else theirs
    return _Pair(base=mine, new=theirs, differences=differences)


def _controlled(pair: _Pair, base: _Placed, again: _Placed, rules: Rules) -> _Pair | Row:
    """The pair with its control, in which nothing may differ; or the row that says what does."""
    if not again:
        reason = f"no control: '{rules.base_again}' has no such benchmark"
        return _incomparable(pair.base, pair.new, reason)
    found = _matched(base, again, replace(rules, across=()))
    if isinstance(found, Row):
        return _incomparable(pair.base, pair.new, f"no control: {found.reason}")
    return replace(pair, base_again=found.new)


def _facts(records: Iterable[Record]) -> list[comparability.Facts]:
    return [comparability.facts(rec) for rec in records]


def _only_new(new: _Placed, lacks: Path, lost: Iterable[Record]) -> Row:
    """The row of a benchmark that has no base, with the one of the base that is nearest."""
    records = tuple(new.values())
    found = [comparability.differences(_facts([rec]), _facts(records[:1])) for rec in lost]
    return _incomparable((), records, f"no baseline: '{lacks}' {_absent(lacks, found)}")


def _only_base(base: _Placed, lacks: Path, gained: Iterable[Record]) -> Row:
    records = tuple(base.values())
    found = [comparability.differences(_facts(records[:1]), _facts([rec])) for rec in gained]
    reason = f"nothing new to hold to it: '{lacks}' {_absent(lacks, found)}"
    return _incomparable(records, (), reason)


def _absent(lacks: Path, others: Sequence[tuple[Difference, ...]]) -> str:
    """That a side lacks a benchmark, and in what the nearest of those it has differs."""
    if not lacks.exists():
        return "is not there"
    if not others:
        return "has no such benchmark"
    nearest = min(others, key=len)
    differs = comparability.undeclared(nearest, ())
    return f"has no such benchmark, and the nearest one differs: {differs}"


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


def _judged(pairs: Sequence[_Pair], rules: Rules) -> tuple[Row, ...]:
    """A row a pair; verdicts of a change hold for all of them together (Holm)."""
    # Ranks must be able to be as sure as the most doubtful of the family has to be.
    strictest = verdict.ALPHA / max(1, len(pairs))
    found = [_estimate(pair, rules, strictest) for pair in pairs]
    levels = verdict.holm([each.shift.p_value for each in found])
    return tuple(
        _row(pair, each, level, rules)
        for pair, each, level in zip(pairs, found, levels, strict=True)
    )


def _estimate(pair: _Pair, rules: Rules, level: float) -> Estimate:
    base, new = estimates.runs(pair.base), estimates.runs(pair.new)
    if rules.paired:
        return estimates.of_pairs(base, new, level)
    return estimates.of_sides(base, new, rules.process_sd, level)


def _row(pair: _Pair, found: Estimate, level: float, rules: Rules) -> Row:
    control = _control(pair, rules, level)
    change = comparison.judged(found.shift, method=found.method, level=level, units=found.units)
    judged = controls.judged(found.shift, change, rules.threshold, verdict.ALPHA, control)
    return Row(
        base=_side(pair.base),
        new=_side(pair.new),
        # Five pairs have a 90% interval and no 95% one: what is too little for a change is for all.
        verdict="INCONCLUSIVE" if found.needs else judged.verdict,
        reason=found.needs or judged.reason,
        change=change,
        least_change=judged.least_change,
        differences=pair.differences,
        control=control,
    )


def _control(pair: _Pair, rules: Rules, level: float) -> Control | None:
    """The base held to itself, pair by pair, where it was measured again."""
    if not pair.base_again:
        return None
    base, again = estimates.runs(pair.base), estimates.runs(pair.base_again)
    return controls.of(estimates.of_pairs(base, again, level).units, rules.threshold, level)


def _notes(pairs: Sequence[_Pair], rules: Rules) -> tuple[str, ...]:
    notes = [] if rules.paired else list(_allowance(pairs, rules))
    differing = dict.fromkeys(s for p in pairs for s in settings.differing(p.base, p.new))
    if differing:
        notes.append(f"Settings differ, and may be the change: {'; '.join(differing)}.")
    if len(pairs) > 1:
        notes.append(
            f"The verdicts of a change hold for all {len(pairs)} benchmarks together with "
            f"{percent(1 - verdict.ALPHA, 0)} confidence (Holm)."
        )
    return tuple(notes)


def _cautions(rows: Iterable[Row], rules: Rules) -> Iterable[str]:
    """What controls say of how much counts, once each."""
    said = [controls.caution(row.control, rules.threshold) for row in rows if row.control]
    return dict.fromkeys(filter(None, said))


def _doubts(pairs: Sequence[_Pair], base: Path, new: Path) -> Iterable[str]:
    """What speaks against the measurements of either side, by the codes of their caveats."""
    for path, records in (
        (base, [rec for pair in pairs for rec in pair.base]),
        (new, [rec for pair in pairs for rec in pair.new]),
    ):
        found = [{caveat.code for caveat in trust.caveats(rec)} for rec in records]
        codes = sorted(set().union(*found)) if found else []
        if codes:
            some = sum(map(bool, found))
            of = (
                f"{some} of {len(found)} results of '{path}' were"
                if len(found) > 1
                else f"'{path}' was"
            )
            yield f"{of} disturbed: {', '.join(codes)}; 'gptbench report' says what that means."


def _allowance(pairs: Sequence[_Pair], rules: Rules) -> Iterable[str]:
    """What few results are allowed, and where that is too much for one verdict."""
    needed = ranks.fewest_each(verdict.ALPHA / max(1, len(pairs)))
    needed = max(needed, ranks.fewest_pairs(verdict.ALPHA))
    few = [(len(p.base), len(p.new)) for p in pairs if min(len(p.base), len(p.new)) < needed]
    if not few:
        return
    yield (
        f"Two processes that run the same steps may differ by {percent(rules.process_sd, 2)} "
        f"(standard deviation; --process-sd states another), and the intervals allow for it. "
        f"With {needed} results a side their own scatter decides, and 'compare --run' "
        "measures both in turns."
    )
    reach = math.expm1(min(estimates.best_reach(m, n, rules.process_sd) for m, n in few))
    if reach >= rules.threshold:
        yield (
            f"So few can never be SAME: they are sure to ±{percent(reach)} at best, and "
            f"{percent(rules.threshold)} is asked for. Measure {needed} a side."
        )
