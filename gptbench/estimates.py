"""How far the results of one side lie from those of the other, and how surely.

Two processes that run the same steps differ by more than their steps tell. Enough of them show by
how much themselves, by ranks. Fewer are allowed what is stated for them, or what they show where
that is more. Pairs measured in turns share what the machine did meanwhile, and count as one value.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gptbench import metrics, ranks, verdict
from gptbench.ranks import NormalShift, Shift
from gptbench.record import Record
from gptbench.student import StudentShift
from gptbench.units import percent

# Standard deviation of the difference between two processes that run the same steps.
PROCESS_SD = 0.0428

# What an interval is a multiple of, at the confidence that a record's own has.
_Z = statistics.NormalDist().inv_cdf(0.5 + metrics.CONFIDENCE / 2)

# Below this the slowest and fastest step do not hold the median with 95% confidence.
FEWEST_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What the processes of one side say, each in the logarithm of its median time per token.

    `within` is the variance that their mean has from within the runs: infinite of too few steps.
    """

    log_times: tuple[float, ...]
    within: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How far the new side lies from the base, and the words for how that was come by.

    `units` are the pairs behind it, if there are. `needs` is what is missing where there is no
    interval, and '' where there is one.
    """

    shift: Shift
    method: str
    units: tuple[float, ...] = ()
    needs: str = ""


def runs(records: Sequence[Record]) -> Runs:
    """The processes of one side."""
    logs, variances = [], []
    for rec in records:
        taken = metrics.derive(rec).step_time_s
        logs.append(math.log(taken.median / rec.workload.tokens))
        low, high = taken.low, taken.high
        variances.append((math.log(high / low) / 2 / _Z) ** 2 if low and high else math.inf)
    return Runs(log_times=tuple(logs), within=sum(variances) / len(records) ** 2)


def of_pairs(base: Runs, new: Runs, level: float) -> Estimate:
    """By the signed ranks of pairs, which stand at the same place on both sides.

    What slows both of a pair down cancels, so that a machine that drifts costs no certainty.
    """
    units = tuple(b - a for a, b in zip(base.log_times, new.log_times, strict=True))
    shift = ranks.signed_rank(units)
    least = ranks.fewest_pairs(level)
    return Estimate(
        shift=shift,
        method=f"{len(units)} pairs of processes in turns",
        units=units,
        needs=f"an interval needs {least} pairs. Measure more" if len(units) < least else "",
    )


def of_sides(base: Runs, new: Runs, process_sd: float, level: float) -> Estimate:
    """By ranks where the processes are enough for the level, else with what is allowed for them."""
    m, n = len(base.log_times), len(new.log_times)
    by_rank = ranks.rank_sum(base.log_times, new.log_times)
    enough = min(m, n) >= ranks.fewest_pairs(verdict.ALPHA)
    if enough and math.isfinite(by_rank.interval(level)[1]):
        return Estimate(shift=by_rank, method=f"{m} and {n} processes, by their own scatter")
    within = base.within + new.within
    middle = statistics.fmean(new.log_times) - statistics.fmean(base.log_times)
    processes = "one process a side" if m == n == 1 else f"{m} and {n} processes"
    needs = "" if math.isfinite(within) else f"an interval needs {FEWEST_STEPS} steps a result"
    # The stated deviation is one of a difference: that of a single process is smaller by √2.
    stated, observed = process_sd**2 / 2, _observed(base, new)
    error = math.sqrt(max(stated, observed) * (1 / m + 1 / n) + within)
    if observed > stated:
        return Estimate(
            shift=StudentShift(middle, error, m + n - 2),
            method=f"{processes}, which differ by more than {percent(process_sd, 2)} (sd)",
            needs=needs and f"{needs}. Measure longer",
        )
    return Estimate(
        shift=NormalShift(middle, error),
        method=f"{processes}, which may differ by {percent(process_sd, 2)} (sd)",
        needs=needs and f"{needs}. Measure longer",
    )


def _observed(base: Runs, new: Runs) -> float:
    """The variance between the processes of a side, as they themselves show it."""
    freedom = len(base.log_times) + len(new.log_times) - 2
    if freedom == 0:
        return 0.0
    sides = (base.log_times, new.log_times)
    return sum(statistics.pvariance(side) * len(side) for side in sides) / freedom


def best_reach(m: int, n: int, process_sd: float) -> float:
    """How far the 90% interval reaches at the least where m and n processes are allowed for."""
    error = process_sd * math.sqrt((1 / m + 1 / n) / 2)
    return statistics.NormalDist().inv_cdf(1 - verdict.ALPHA) * error
