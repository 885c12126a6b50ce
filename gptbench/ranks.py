"""How far one sample lies from another, by ranks alone: an estimate, its exact interval, a p-value.

Ranks are deaf to how far out a stalled run is. The estimates are Hodges and Lehmann's (1963), the
intervals those that invert Wilcoxon's tests: Hollander, Wolfe and Chicken (2014), sections 3.1 to
3.3 for pairs and 4.1 to 4.3 for two samples. Standard library only.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Protocol

_NORMAL = statistics.NormalDist()

# Differences of two samples up to which the distribution of their rank sum is counted out.
EXACT_DIFFERENCES = 10_000


class Shift(Protocol):
    """How far something lies from nothing, as sure as is asked for."""

    @property
    def estimate(self) -> float:
        """The best single value."""

    def interval(self, level: float) -> tuple[float, float]:
        """The bounds that miss the truth with a chance of at most `level`; infinite if none do."""

    @property
    def p_value(self) -> float:
        """The least level at which the interval leaves zero out."""


class Null(Protocol):
    """How a rank statistic is distributed where there is no shift; symmetric."""

    def at_most(self, value: int) -> float:
        """The chance of a statistic of at most `value`."""

    def cut(self, tail: float) -> int:
        """How many of the smallest values have a chance of at most `tail` together."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A distribution counted out: `ways[k]` of all ways give the statistic k."""

    ways: tuple[int, ...]

    def at_most(self, value: int) -> float:
        return sum(self.ways[: value + 1]) / sum(self.ways)

    def cut(self, tail: float) -> int:
        limit = tail * sum(self.ways)
        return sum(ways <= limit for ways in accumulate(self.ways))


@dataclass(frozen=True, slots=True)
class Approximate:
    """A distribution as a normal one, with the correction for whole numbers."""

    mean: float
    sigma: float

    def at_most(self, value: int) -> float:
        return _NORMAL.cdf((value + 0.5 - self.mean) / self.sigma)

    def cut(self, tail: float) -> int:
        return max(0, math.floor(self.mean + _NORMAL.inv_cdf(tail) * self.sigma + 0.5))


@dataclass(frozen=True, slots=True)
class RankShift:
    """A shift by ranks: its median difference, and bounds that are differences too.

    `differences` are sorted, and `null` is how many of them fall below the true shift.
    """

    differences: tuple[float, ...]
    null: Null

    @property
    def estimate(self) -> float:
        return statistics.median(self.differences)

    def interval(self, level: float) -> tuple[float, float]:
        cut = self.null.cut(level / 2)
        if cut == 0:
            return -math.inf, math.inf
        return self.differences[cut - 1], self.differences[-cut]

    @property
    def p_value(self) -> float:
        below = sum(d <= 0 for d in self.differences)
        above = sum(d >= 0 for d in self.differences)
        return min(1.0, 2 * self.null.at_most(min(below, above)))


@dataclass(frozen=True, slots=True)
class NormalShift:
    """A shift that is taken for normal, with a standard error that is stated and not estimated."""

    estimate: float
    standard_error: float

    def interval(self, level: float) -> tuple[float, float]:
        reach = _NORMAL.inv_cdf(1 - level / 2) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    @property
    def p_value(self) -> float:
        return 2 * _NORMAL.cdf(-abs(self.estimate) / self.standard_error)


def signed_rank(values: Sequence[float]) -> RankShift:
    """How far the values lie from zero: the median of all means of two of them (Walsh averages)."""
    n = len(values)
    averages = sorted((values[i] + values[j]) / 2 for i in range(n) for j in range(i, n))
    return RankShift(tuple(averages), Counted(signed_rank_ways(n)))


def rank_sum(base: Sequence[float], new: Sequence[float]) -> RankShift:
    """How far the values of `new` lie above those of `base`: the median of all differences."""
    differences = tuple(sorted(b - a for a in base for b in new))
    m, n = len(base), len(new)
    if m * n <= EXACT_DIFFERENCES:
        return RankShift(differences, Counted(rank_sum_ways(m, n)))
    return RankShift(differences, Approximate(m * n / 2, math.sqrt(m * n * (m + n + 1) / 12)))


@cache
def signed_rank_ways(n: int) -> tuple[int, ...]:
    """Subsets of the ranks 1 to n by their sum, of 2^n in all."""
    ways = [1] + [0] * (n * (n + 1) // 2)
    for rank in range(1, n + 1):
        for total in range(len(ways) - 1, rank - 1, -1):
            ways[total] += ways[total - rank]
    return tuple(ways)


@cache
def rank_sum_ways(m: int, n: int) -> tuple[int, ...]:
    """Orders of m and n values by how many pairs are the wrong way round, of C(m + n, m) in all.

    The coefficients of the Gaussian binomial ∏ (1 - q^(n+i)) / (1 - q^i) over i = 1 to m.
    """
    ways = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for pairs in range(m * n, n + i - 1, -1):
            ways[pairs] -= ways[pairs - n - i]
        for pairs in range(i, m * n + 1):
            ways[pairs] += ways[pairs - i]
    return tuple(ways)


def fewest_pairs(level: float) -> int:
    """The fewest pairs that can ever establish a change at the level: all of one sign, 2 / 2^n."""
    n = 1
    while 2 / 2**n > level:
        n += 1
    return n


def fewest_each(level: float) -> int:
    """The fewest replicates a side that can: no value of one side among the other, 2 / C(2n, n)."""
    n = 1
    while 2 / math.comb(2 * n, n) > level:
        n += 1
    return n
