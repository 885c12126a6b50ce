"""What a series of step times says: its median, how sure that is, where it became steady.

Standard library only, because the command line and the worker both look at the same series. The
rules are those of `method_ref.py` by way of the sources named at each function; nothing here ever
drops a slow step from an estimate.
"""

import math
import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_quantile_of_normal = statistics.NormalDist().inv_cdf

# Makes the median absolute deviation of a normal sample an estimate of its standard deviation.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and an interval that holds the true one with the confidence it was asked for.

    `n_effective` is how many independent samples the series is worth, after autocorrelation.
    `low` and `high` are None where the samples are too few for that confidence, however far apart.
    """

    median: float
    low: float | None
    high: float | None
    n: int
    n_effective: float

    @property
    def relative_half_width(self) -> float | None:
        """Half of the interval as a share of the median; None where there is no interval."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2 / self.median if self.median else math.inf


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile by linear interpolation between order statistics (type 7, numpy's default)."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * min(1.0, max(0.0, q))
    below = int(position)
    if below + 1 >= len(ordered):
        return ordered[below]
    return ordered[below] + (position - below) * (ordered[below + 1] - ordered[below])


def effective_sample_size(times: Sequence[float]) -> float:
    """Independent samples that a series of positive times is worth: n / (1 + 2 Σ ρ_k).

    The sum of autocorrelations stops at the first one within noise (2/√n); the series is taken in
    logarithms and winsorised at 1% and 97%, so that a single stall does not hide a slow wave.
    """
    n = len(times)
    if n < 8:
        return float(n)
    logs = [math.log(t) for t in times]
    low, high = quantile(logs, 0.01), quantile(logs, 0.97)
    clipped = [min(max(v, low), high) for v in logs]
    mean = sum(clipped) / n
    centred = [v - mean for v in clipped]
    variance = sum(v * v for v in centred) / n
    # Below the resolution of a float's mean, what is left is rounding and not a series.
    if variance <= (1e-12 * max(1.0, abs(mean))) ** 2:
        return float(n)
    inefficiency = 1.0
    for lag in range(1, n // 3):
        rho = sum(map(operator.mul, centred, centred[lag:])) / n / variance
        if rho < 2 / math.sqrt(n):
            break
        inefficiency += 2 * rho
    return max(1.0, min(float(n), n / inefficiency))


def median_interval(times: Sequence[float], confidence: float = 0.95) -> Interval:
    """The median with its order-statistic interval at the effective sample size.

    Distribution-free: the bounds are sample quantiles at ½ ± z·½/√n_eff. A bootstrap that takes
    the steps for independent covers the truth 38% of the time at an autocorrelation of 0.9.
    Of so few steps that no narrower interval could, it is from the fastest to the slowest; of
    fewer than `fewest_for_any`, there is none.
    """
    n_effective = effective_sample_size(times)
    median, n = statistics.median(times), len(times)
    if n < fewest_for_any(confidence):
        return Interval(median=median, low=None, high=None, n=n, n_effective=n_effective)
    spread = _quantile_of_normal(0.5 + confidence / 2) * 0.5 / math.sqrt(max(4.0, n_effective))
    if len(times) < fewest_for_less(confidence):
        spread = 0.5
    return Interval(
        median=median,
        low=quantile(times, 0.5 - spread),
        high=quantile(times, 0.5 + spread),
        n=n,
        n_effective=n_effective,
    )


def fewest_for_any(confidence: float) -> int:
    """The fewest values of which the least and the largest hold the median that confidently.

    All n fall on one side of it with a chance of 2 / 2^n: 6 values are enough for 95%, 8 for 99%.
    """
    return math.ceil(1 - math.log2(1 - confidence))


def fewest_for_less(confidence: float) -> int:
    """The fewest values whose second least and second largest hold the median that confidently.

    Of n values k or fewer fall on one side of the median with a chance of Σ C(n, i) / 2^n over
    i ≤ k (David & Nagaraja 2003, section 7.1); with k = 1, and either side, 2·(n + 1) / 2^n.
    """
    n = 2
    while 2 * (n + 1) / 2**n > 1 - confidence:
        n += 1
    return n


def mad_sigma(values: Sequence[float]) -> float:
    """Standard deviation estimated from the median absolute deviation: deaf to outliers."""
    middle = statistics.median(values)
    return MAD_TO_SIGMA * statistics.median(abs(v - middle) for v in values)


def steady_start(times: Sequence[float], window: int = 5, tolerance: float = 0.02) -> int:
    """Index of the first step of the steady part; half the series at most.

    The last half is the reference: a step starts the steady part when the median of its window
    agrees with the reference's median within its own scatter, and the step itself is no outlier.
    A series of fewer than four windows tells nothing of that, and is taken whole.
    """
    n = len(times)
    if n < 4 * window:
        return 0
    logs = [math.log(t) for t in times]
    tail = logs[n // 2 :]
    middle, sigma = statistics.median(tail), mad_sigma(tail)
    # 1.2533 = sqrt(pi / 2): a median scatters that much more than a mean of as many values.
    agreement = max(tolerance / 2, 2.5 * sigma * 1.2533 / math.sqrt(window))
    for i in range(n // 2):
        near = abs(statistics.median(logs[i : i + window]) - middle) <= agreement
        if near and abs(logs[i] - middle) <= max(4 * sigma, tolerance):
            return i
    return n // 2


def tukey_outliers(times: Sequence[float]) -> tuple[int, int]:
    """How many steps are mild and how many severe outliers on the slow side (1.5 and 3 IQR).

    Counted to be shown, never dropped (Tukey 1977; criterion.rs names the same classes).
    """
    first, third = quantile(times, 0.25), quantile(times, 0.75)
    width = third - first
    severe = sum(t > third + 3 * width for t in times)
    mild = sum(t > third + 1.5 * width for t in times) - severe
    return mild, severe
