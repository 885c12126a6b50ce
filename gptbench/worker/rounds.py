"""Times several calls that take turns, so that a noisy moment is shared by all of them."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gptbench.calibration import Effort, Spread, spread
from gptbench.worker.clock import Clock

Call = Callable[[], object]

# Between two readings of the clock: 400 times what an event of CUDA resolves.
GROUP_S = 200e-6

# Seconds between two waits while a device is only kept busy.
LOAD_WINDOW_S = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """How a call is timed in a round: `marks` readings of the clock, a `group` of calls each."""

    call: Call
    group: int
    marks: int


def timed(calls: Sequence[Call], clock: Clock, effort: Effort) -> tuple[Spread, ...]:
    """The time of one call of each, from all of its rounds.

    How often each is called is decided beforehand: looking while it is timed would bias it.
    """
    plans = [planned(call, clock, effort) for call in calls]
    taken_s: list[list[float]] = [[] for _ in plans]
    for _ in range(effort.rounds):
        for plan, times in zip(plans, taken_s, strict=True):
            times.extend(round_of(plan, clock))
    return tuple(spread(times) for times in taken_s)


def planned(call: Call, clock: Clock, effort: Effort) -> Plan:
    """How a call fills a round."""
    once_s = single(call, clock)
    group = max(1, math.ceil(GROUP_S / once_s))
    if group > 1:
        # So short a call alone says more about the clock than about itself.
        once_s = statistics.fmean(round_of(Plan(call, group, 1), clock))
        group = max(1, math.ceil(GROUP_S / once_s))
    mark_s = group * once_s
    filling, most = round(effort.round_s / mark_s), round(effort.most_s / mark_s)
    return Plan(call, group, max(1, filling, min(effort.least_marks, most)))


def single(call: Call, clock: Clock) -> float:
    """Seconds of one call, after another that nobody timed."""
    call()
    clock.start(1)
    call()
    clock.mark()
    return max(1, clock.stop().step_ns[0]) / 1e9


def round_of(plan: Plan, clock: Clock) -> list[float]:
    """Seconds of a call at each reading of the clock."""
    clock.start(plan.marks)
    for _ in range(plan.marks):
        for _ in range(plan.group):
            plan.call()
        clock.mark()
    return [max(1, ns) / 1e9 / plan.group for ns in clock.stop().step_ns]


def load(call: Call, clock: Clock, load_s: float) -> None:
    """Keep the device busy for so many seconds, without a pause that would cool it."""
    left_s = load_s
    while left_s > 0:
        marks = max(1, round(LOAD_WINDOW_S / single(call, clock)))
        left_s -= sum(round_of(Plan(call, 1, marks), clock))
