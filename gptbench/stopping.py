"""When a window has enough steps: looked at rarely, so that looking does not make the end.

A rule that looks after each step stops at a lucky moment. This one looks after 30 steps and then
whenever there are half as many again, and asks for 99% where 95% is published.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gptbench.stats import fewest_for_any, median_interval, steady_start

Stop = Literal["converged", "plateau", "budget", "steps"]

CONFIDENCE = 0.99
FIRST_LOOK = 30
GROWTH = 1.5

# Fewer steps than these have no interval that sure, not even from the fastest to the slowest.
FEWEST = fewest_for_any(CONFIDENCE)

# Fewer independent steps than these, and the interval's own width is not known yet.
FEWEST_EFFECTIVE = 25

# Three looks, over which the steps more than double, would narrow noise without memory by a third.
PLATEAU_LOOKS = 3
PLATEAU_GAIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is enough: the half-width of the median's interval, as a share of it; and the bounds.

    Nothing is called converged before `min_s`, or plateau before three times that.
    """

    precision: float
    min_s: float
    max_s: float
    max_steps: int


def next_look(steps: int) -> int:
    """The next number of steps to look at: 30, 45, 68, 102, ..."""
    look = FIRST_LOOK
    while look <= steps:
        look = math.ceil(look * GROWTH)
    return look


def half_width(times: Sequence[float]) -> tuple[float | None, float]:
    """The 99% half-width of the median of the steady part, relative to it, and the steps' worth.

    The worth is the number of independent steps that they amount to. The half-width is None of
    fewer steps than `FEWEST`.
    """
    found = median_interval(times[steady_start(times) :], CONFIDENCE)
    return found.relative_half_width, found.n_effective


def judge(
    times: Sequence[float], widths: Sequence[float], rule: Rule
) -> tuple[Stop | None, tuple[float, ...]]:
    """What a look at the step times (in seconds) says, and the widths of all looks with this one.

    'converged': as narrow as asked for. 'plateau': the noise is such that more of the same does
    not help (the idea is nvbench's). 'budget': the time is over. 'steps': there are as many as
    there may be. None: go on.
    """
    found, worth = half_width(times)
    width = math.inf if found is None else found
    seen = (*widths, width)
    taken_s, known = sum(times), worth >= FEWEST_EFFECTIVE
    if len(times) >= FIRST_LOOK and taken_s >= rule.min_s and known and width <= rule.precision:
        return "converged", seen
    if taken_s >= rule.max_s:
        return "budget", seen
    if len(times) >= rule.max_steps:
        return "steps", seen
    stuck = len(seen) >= PLATEAU_LOOKS and width > (1 - PLATEAU_GAIN) * seen[-PLATEAU_LOOKS]
    if stuck and known and taken_s >= 3 * rule.min_s:
        return "plateau", seen
    return None, seen
