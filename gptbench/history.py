"""Results of the same benchmark in the order of time: what became of its speed.

A benchmark is a model, a workload and a device, on a CPU with as many threads. Other versions of
torch or of the code are no other benchmark: what they did to it is what a history is for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from gptbench import comparability, levels, metrics, settings
from gptbench.archive import Archive, Filed, Lost
from gptbench.conventions import Convention
from gptbench.errors import QuestionError
from gptbench.levels import Level
from gptbench.metrics import Metrics
from gptbench.profiling import Profile
from gptbench.record import Record
from gptbench.trainrecord import TrainRecord

# Commits are told by as many digits as tell them apart.
_DIGITS = 12
_COMMITS = ("gptbench_commit", "folder_commit")

# Where a series was cut is known to a result or so: both sides are looked at so far.
_BESIDE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A result in a series: when it was measured, and what it came to."""

    filed: Filed[Record]
    moment: datetime
    metrics: Metrics

    @property
    def record(self) -> Record:
        return self.filed.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of level from the result at index `at` on; `differences` are what changed there.

    `ratio` is the median tokens/s of the level after over that before.
    """

    at: int
    ratio: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The results of one benchmark, the oldest first, and the levels of their median tokens/s."""

    points: tuple[Point, ...]
    levels: tuple[Level, ...]
    changes: tuple[Change, ...]

    @property
    def first(self) -> Point:
        return self.points[0]

    @property
    def newest(self) -> Point:
        return self.points[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The series of an archive, those measured first before; `lost` has what has no time.

    Beside them stand what is of one time only: profiles and trainings.
    """

    series: tuple[Series, ...]
    profiles: tuple[Filed[Profile], ...]
    trainings: tuple[Filed[TrainRecord], ...]
    lost: tuple[Lost, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """Every result, the newest first."""
        found = [point for series in self.series for point in series.points]
        return tuple(sorted(found, key=lambda p: (p.moment, p.filed.name), reverse=True))


def derive(found: Archive, convention: Convention) -> History:
    """The history of the records of an archive, their FLOPs counted by a convention."""
    points: list[Point] = []
    lost = list(found.lost)
    for filed in found.records:
        try:
            moment = _moment(filed)
        except QuestionError as error:
            lost.append(Lost(name=filed.name, kind="unreadable", reason=str(error)))
        else:
            derived = metrics.derive(filed.value, convention)
            points.append(Point(filed=filed, moment=moment, metrics=derived))
    by_benchmark: dict[object, list[Point]] = {}
    for point in sorted(points, key=lambda p: (p.moment, p.filed.name)):
        by_benchmark.setdefault(_benchmark(point.record), []).append(point)
    return History(
        series=tuple(map(_series, by_benchmark.values())),
        profiles=found.profiles,
        trainings=found.trainings,
        lost=tuple(lost),
    )


def _moment(filed: Filed[Record]) -> datetime:
    """When a record was started, in UTC. Raises QuestionError where that is no time."""
    started_at = filed.value.started_at
    try:
        moment = datetime.fromisoformat(started_at)
    except ValueError as error:
        raise QuestionError(
            f"'{filed.name}': started_at {started_at!r} is no time, such as 2026-01-02T03:04:05Z."
        ) from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _benchmark(rec: Record) -> object:
    threads = rec.environment.get("threads") if rec.device.kind == "cpu" else None
    return comparability.benchmark(rec, ()), threads


def _series(points: Sequence[Point]) -> Series:
    found = levels.levels([point.metrics.tokens_per_s.median for point in points])
    return Series(
        points=tuple(points),
        levels=found,
        changes=tuple(
            Change(
                at=after.start,
                ratio=after.median / before.median,
                differences=_differences(points, before, after),
            )
            for before, after in pairwise(found)
        ),
    )


def _differences(points: Sequence[Point], before: Level, after: Level) -> tuple[str, ...]:
    """What is not the same on both sides of a cut: versions, settings, commits."""
    old = [p.record for p in points[max(before.start, before.end - _BESIDE) : before.end]]
    new = [p.record for p in points[after.start : after.start + _BESIDE]]
    versions = sorted({r.gptbench_version for r in old}), sorted({r.gptbench_version for r in new})
    found = [
        str(difference)
        for difference in comparability.differences(
            [comparability.facts(r) for r in old], [comparability.facts(r) for r in new]
        )
    ]
    found += settings.differing(old, new)
    if versions[0] != versions[1]:
        found.append(f"gptbench {' and '.join(versions[0])} → {' and '.join(versions[1])}")
    for name in _COMMITS:
        left, right = (
            settings.value(old[-1], name)[:_DIGITS],
            settings.value(new[0], name)[:_DIGITS],
        )
        if left != right:
            found.append(f"{name} {left} → {right}")
    return tuple(found)
