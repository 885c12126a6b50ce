"""Two contenders measured in turns, so that whatever slows the machine down meets both alike.

A pair is two fresh processes, both alive, one of them waiting. They take turns ABBA, BAAB, ABBA ...:
what drifts in a straight line cancels within four visits, and which of them goes first alternates.
What a pair says is one number, because two processes differ by more than their steps tell; so the
pair is what is replicated (Bulej et al. 2020, arXiv:2001.05811; Kalibera and Jones 2013).
"""

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from gptbench import ranks, series

Arm = Literal["base", "new"]

# Steps that warm up are looked at when there are a quarter more than at the last look.
GROWTH = 1.25

# A step this long is as warm after the second as it gets.
SLOW_STEP_S = 3.0


class Contender(Protocol):
    """A process that holds a step."""

    def prepare(self) -> None:
        """Build the step. Starting the process, which came before, does not wait for anything."""

    def visit(self, steps: int) -> Sequence[int]:
        """Run so many steps; the nanoseconds of each."""


Start = Callable[[Arm], AbstractContextManager[Contender]]


@dataclass(frozen=True, slots=True)
class Warmup:
    """Steps and seconds, both of which a process runs before it is timed.

    It goes on until its steps have settled, or `most_s` have gone by.
    """

    steps: int
    time_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Size:
    """How much a pair measures: quads of four visits, each of so many steps after one unmeasured."""

    quads: int
    steps: int

    @property
    def steps_in_all(self) -> int:
        return 4 * self.quads * (self.steps + 1)


@dataclass(frozen=True, slots=True)
class Pair:
    """What two processes came to: the logarithm of new over base step time in each quad.

    `base_log_s` and `new_log_s` are the means over visits of the logarithm of the step time.
    """

    quads: tuple[float, ...]
    base_log_s: float
    new_log_s: float

    @property
    def effect(self) -> float:
        """The pair's one number: the Hodges-Lehmann estimate of its quads."""
        return ranks.signed_rank(self.quads).estimate


def measured(
    start: Start, arms: tuple[Arm, Arm], size: Size, warmup: Warmup, random: Random
) -> Pair:
    """A fresh pair of processes, measured: which is started, warmed and visited first is chance."""
    with ExitStack() as alive:
        both = _started(start, arms, alive, random)
        for i in _either_order(random):
            warm_up(both[i], warmup)
        return in_turns(both[0], both[1], size, first=random.randrange(2))


def rehearsed(start: Start, warmup: Warmup, random: Random) -> float:
    """Seconds of a step, the slower contender's, from a pair that is started for this alone."""
    with ExitStack() as alive:
        both = _started(start, ("base", "new"), alive, random)
        return max(warm_up(both[i], warmup) for i in (0, 1))


def _started(
    start: Start, arms: tuple[Arm, Arm], alive: ExitStack, random: Random
) -> dict[int, Contender]:
    """Both processes: they load side by side, and build one after the other."""
    order = _either_order(random)
    both = {i: alive.enter_context(start(arms[i])) for i in order}
    for contender in both.values():
        contender.prepare()
    return both


def _either_order(random: Random) -> tuple[int, int]:
    return (0, 1) if random.random() < 0.5 else (1, 0)


def warm_up(contender: Contender, warmup: Warmup) -> float:
    """Run until steps and time are reached and steps have settled; seconds of the fastest step then.

    The fastest, because what else runs on the machine can only add to it.
    """
    # The first step of all builds what is built at first use, and tells nothing.
    first_s = contender.visit(1)[0] / 1e9
    taken_s = [contender.visit(1)[0] / 1e9]
    if taken_s[0] > SLOW_STEP_S:
        return taken_s[0]
    while left := _left(warmup, taken_s, first_s + sum(taken_s)):
        taken_s += [ns / 1e9 for ns in contender.visit(left)]
    return min(taken_s)


def _left(warmup: Warmup, taken_s: Sequence[float], spent_s: float) -> int:
    """How many steps more before it is looked at again; 0 where a process is warm."""
    step_s = taken_s[-1]
    least = max(warmup.steps - 1 - len(taken_s), math.ceil((warmup.time_s - spent_s) / step_s))
    if least > 0:
        return least
    if spent_s >= warmup.most_s or series.settled(taken_s):
        return 0
    look = max(series.FEWEST_TO_SETTLE, math.ceil(GROWTH * len(taken_s))) - len(taken_s)
    return min(look, math.ceil((warmup.most_s - spent_s) / step_s))


def order(quad: int) -> str:
    """Whose turn it is in the quad of a number: every second one is the other way round."""
    return ("ABBA", "BAAB")[quad % 2]


def in_turns(base: Contender, new: Contender, size: Size, first: int) -> Pair:
    """ABBA and BAAB by turns, beginning with A where `first` is even."""
    quads, visits = [], {"A": list[float](), "B": list[float]()}
    for quad in range(size.quads):
        times: dict[str, list[float]] = {"A": [], "B": []}
        for arm in order(first + quad):
            times[arm].append(_log_s(base if arm == "A" else new, size.steps))
        quads.append(statistics.fmean(times["B"]) - statistics.fmean(times["A"]))
        for arm, logs in times.items():
            visits[arm] += logs
    return Pair(tuple(quads), statistics.fmean(visits["A"]), statistics.fmean(visits["B"]))


def _log_s(contender: Contender, steps: int) -> float:
    """The logarithm of a visit's median step time; its first step finds the other's caches."""
    _, *taken_ns = contender.visit(steps + 1)
    return math.log(statistics.median(taken_ns) / 1e9)
