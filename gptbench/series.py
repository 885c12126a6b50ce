"""What a series of step times looks like: whether it drifts, has two speeds, has settled.

Standard library only, as in `stats`: the worker asks to know when to begin and when to stop, the
reports to say what a median alone would hide. Nothing here changes a number.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations

from gptbench.stats import steady_start

# Blocks whose medians a trend is looked for in: pairs grow with their square.
BLOCKS = 32

# Two-sided 99% of a normal distribution; and 95%, where a false alarm costs a few more steps.
SIGNIFICANT_Z = 2.576
SUSPECT_Z = 1.960

# Ten steps of this length take half a minute: of longer ones nobody waits for more than are needed.
SLOW_STEP_S = 3.0

# In the last three quarters of fewer steps than these no trend could be seen.
FEWEST_TO_SETTLE = 16

# Of fewer steps one hump too often looks like two.
FEWEST_FOR_MODES = 50

# A minor mode of fewer steps is outliers, which are counted elsewhere.
SMALLEST_MODE = 0.1

# Ashman, Bird & Zepf 1994 call components of a fitted mixture separate from D = 2 on. The halves of
# one hump that is cut in two are further apart than that: 2.65 of a normal, 2·√3 = 3.46 of a uniform
# one, the flattest there is. Of 50 steps chance makes 5 of it in one series of a hundred.
SEPARATE = 5.0


@dataclass(frozen=True, slots=True)
class Trend:
    """How much slower the end of a series is than its beginning, and how surely it is.

    `change` is a fraction of the beginning (Theil 1950, Sen 1968: the median of all slopes);
    `z` is standard normal if there is no trend (Mann 1945, Kendall 1975).
    """

    change: float
    z: float

    def exceeds(self, change: float, z: float = SIGNIFICANT_Z) -> bool:
        return abs(self.change) > change and abs(self.z) > z


NO_TREND = Trend(0.0, 0.0)


def trend(times: Sequence[float]) -> Trend:
    """The trend over the medians of up to 32 blocks of a series of positive times.

    None is found in fewer than 8 steps.
    """
    width = max(1, len(times) // BLOCKS)
    blocks = [
        math.log(statistics.median(times[i : i + width]))
        for i in range(0, len(times) - width + 1, width)
    ]
    m = len(blocks)
    if m < 8:
        return NO_TREND
    pairs = [(late - early, j - i) for (i, early), (j, late) in combinations(enumerate(blocks), 2)]
    rises = sum((rise > 0) - (rise < 0) for rise, _ in pairs)
    slope = statistics.median(rise / apart for rise, apart in pairs)
    sigma = math.sqrt(m * (m - 1) * (2 * m + 5) / 18)
    z = 0.0 if rises == 0 else (rises - math.copysign(1, rises)) / sigma
    return Trend(change=math.expm1(slope * (m - 1)), z=z)


@dataclass(frozen=True, slots=True)
class Modes:
    """Two speeds that steps take turns at: the median of each, and the share of the slow one."""

    fast: float
    slow: float
    slow_share: float


def two_modes(times: Sequence[float]) -> Modes | None:
    """The two modes of a series of positive times, or None where one hump explains it.

    The logarithms are cut where both sides scatter least in sum (two-means, exact in one
    dimension). Two modes are over 2% apart, hold a tenth of the steps at least, and are as far
    apart for their width as D = √2·|μ₁ − μ₂| / √(σ₁² + σ₂²) > 5 says.
    """
    n = len(times)
    least = math.ceil(SMALLEST_MODE * n)
    if n < FEWEST_FOR_MODES:
        return None
    ordered = sorted(times)
    logs = [math.log(t) for t in ordered]
    cut = _least_scatter(logs, least)
    if cut is None:
        return None
    fast, slow = logs[:cut], logs[cut:]
    apart = statistics.fmean(slow) - statistics.fmean(fast)
    width = math.sqrt((statistics.pvariance(fast) + statistics.pvariance(slow)) / 2)
    if apart <= 0.02 or apart <= SEPARATE * width:
        return None
    return Modes(
        fast=statistics.median(ordered[:cut]),
        slow=statistics.median(ordered[cut:]),
        slow_share=(n - cut) / n,
    )


def _least_scatter(ordered: Sequence[float], least: int) -> int | None:
    """Where two-means cuts an ordered series; None where that leaves fewer than `least` beside it."""
    n, total = len(ordered), sum(ordered)
    # Least scatter within is most between: the sum of (sum of a side)² / (size of a side).
    between = [
        below**2 / k + (total - below) ** 2 / (n - k)
        for k, below in enumerate(accumulate(ordered[:-1]), 1)
    ]
    cut = max(range(n - 1), key=between.__getitem__) + 1
    return cut if least <= cut <= n - least else None


def settled(times: Sequence[float], tolerance: float = 0.02) -> bool:
    """Whether a series that warms up has come to where it stays.

    Its steady part begins in its first half, and its last three quarters do not drift: what decays
    slowly agrees with its own end everywhere, but is not flat.
    """
    n = len(times)
    if n < FEWEST_TO_SETTLE:
        return False
    return steady_start(times) < n // 2 and not trend(times[n // 4 :]).exceeds(tolerance, SUSPECT_Z)
