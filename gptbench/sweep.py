"""Measures the points of a spec one after another, and stores each as soon as it is done.

A point that fails is an outcome like any other. A sweep that was stopped, by whatever, goes on
where it was: what is stored is not measured again.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean

from gptbench import __version__, metrics, shelf, throughput
from gptbench.errors import GptbenchError, OutOfMemoryError
from gptbench.grid import Point, Spec
from gptbench.process import Progress
from gptbench.record import Record
from gptbench.shelf import Failure

# Points that are done, what is being done, and the seconds until the end; 0 where nobody knows.
Overall = Callable[[int, str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a point: a record, or why there is none. Neither: it is still to be done."""

    point: Point
    record: Record | None = None
    failure: Failure | None = None

    @property
    def is_known(self) -> bool:
        return self.record is not None or self.failure is not None

    @property
    def status(self) -> str:
        """'done', or the kind of failure."""
        return self.failure.kind if self.failure else "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a folder has of a spec: an outcome for each point in order.

    `others` are results in it that the spec does not ask for. `retried` failed before, and are to
    be tried again.
    """

    outcomes: tuple[Outcome, ...]
    others: int
    retried: int


def stored(spec: Spec, folder: Path, retry_failed: bool) -> Stored:
    """What was done before. Raises QuestionError where a stored outcome cannot be read."""
    outcomes, retried = [], 0
    for point in spec.points:
        rec = shelf.result(folder, point.key)
        failed = None if rec else shelf.failure(folder, point.key)
        if failed and retry_failed:
            failed, retried = None, retried + 1
        current = metrics.with_current_peak(rec) if rec else None
        outcomes.append(Outcome(point=point, record=current, failure=failed))
    asked = {point.key for point in spec.points}
    return Stored(outcomes=tuple(outcomes), others=len(shelf.keys(folder) - asked), retried=retried)


def run(
    before: Sequence[Outcome],
    folder: Path,
    progress: Overall,
    finished: Callable[[int, Outcome], None],
) -> tuple[Outcome, ...]:
    """All outcomes in order, those known `before` and those measured now.

    `finished` is told the number (from 1) of each point that was measured, after it is stored.
    Raises UnavailableError where an outcome cannot be stored.
    """
    outcomes = list(before)
    known = sum(outcome.is_known for outcome in before)
    taken_s: list[float] = []
    for index, outcome in enumerate(before):
        if outcome.is_known:
            continue
        done = known + len(taken_s)
        left_s = time_left(taken_s, len(before) - done)
        started = time.monotonic()
        doing = _told(progress, done, outcome.point.name, left_s, started)
        outcomes[index] = measured(outcome.point, doing)
        try:
            _store(folder, outcomes[index])
        except KeyboardInterrupt:
            _store(folder, outcomes[index])  # what is finished is kept first
            raise
        taken_s.append(time.monotonic() - started)
        finished(index + 1, outcomes[index])
    return tuple(outcomes)


def time_left(taken_s: Sequence[float], points: int) -> float:
    """Seconds that so many points will take if they are like those done; 0 where none is."""
    return mean(taken_s) * points if taken_s else 0.0


def _told(progress: Overall, done: int, name: str, left_s: float, started: float) -> Progress:
    """Progress of one point as progress of the whole."""

    def tell(doing: str, _expected_s: float) -> None:
        passed = time.monotonic() - started
        # More than nothing, which would say that nobody knows.
        progress(done, f"{name}: {doing}", max(1.0, left_s - passed) if left_s else 0.0)

    return tell


def measured(point: Point, progress: Progress) -> Outcome:
    """The point measured, or why it could not be."""
    try:
        rec = throughput.run(point.question, progress)
        metrics.refuse_impossible(metrics.derive(rec), rec)
    except GptbenchError as error:
        failed = Failure(
            kind="out of memory" if isinstance(error, OutOfMemoryError) else "failed",
            reason=str(error),
            command=point.question.command,
            failed_at=datetime.now(UTC).isoformat(timespec="seconds"),
            gptbench_version=__version__,
        )
        return Outcome(point=point, failure=failed)
    return Outcome(point=point, record=rec)


def _store(folder: Path, outcome: Outcome) -> None:
    key = outcome.point.key
    if outcome.record:
        shelf.keep(folder, key, outcome.record)
    elif outcome.failure:
        shelf.keep_failure(folder, key, outcome.failure)
