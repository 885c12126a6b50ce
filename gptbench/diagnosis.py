"""Why a reported utilization cannot be, or can hardly be: the slips that explain it by a factor.

A slip is named where it is seen (the peak that was typed is twice the GPU's own), or where undoing
it makes the number plausible (the tokens of eight GPUs over the peak of one). `report.published`
has the sentence for each code.
"""

import math
from collections.abc import Iterator

from gptbench.trust import Caveat
from gptbench.utilization import Judge, Reading, Setting

Values = dict[str, float | int | str]

# The HFUs of MPT that llm-foundry publishes lie between 17% and 75% (tests/data/published_mpt.csv).
PLAUSIBLE = (0.15, 0.80)
# GeForce cards are measured up to 16% above the peak at their stated clock.
BOOST_ROOM = 1.2
# A peak is quoted as 989 or 989.4, 1979 or 1978.9.
QUOTED = 0.01

# Number formats that models are trained in, the likeliest first.
TRAINED_IN = ("bfloat16", "float16", "tf32", "float8", "float32")
# Nodes have eight GPUs, so clusters of them are thought of before smaller machines.
CLUSTERS, SMALLER = tuple(2**n for n in range(3, 15)), (2, 4)
# Of several numbers of GPUs that are plausible, the likeliest: the median of MPT's MFUs.
TYPICAL = 0.49


def impossible(setting: Setting, exact: Reading) -> bool:
    """Whether the hardware would have done more than its peak, by the exact count."""
    return exact.hfu > (BOOST_ROOM if setting.judge.boosts else 1)


def of_mfu(setting: Setting, exact: Reading) -> tuple[Caveat, ...]:
    """What is odd about a claimed MFU: the peak it is held against, and what is recomputed."""
    slips = tuple(_peak_slips(setting.judge, exact.hfu))
    return slips + (tuple(_recompute(exact)) if exact.hfu > 1 else ())


def of_throughput(setting: Setting, exact: Reading) -> tuple[Caveat, ...]:
    """What is odd about a measured throughput, likeliest first; nothing where nothing is."""
    use = exact.hfu
    slips = tuple(_peak_slips(setting.judge, use))
    if use <= 1:
        return slips or tuple(_per_gpu(setting, exact))
    if not impossible(setting, exact):
        return (Caveat("over-stated-clock", {"mfu": use, "device": setting.judge.name}),)
    if any(float(slip.values["use"]) <= 1 for slip in slips):
        return slips
    guesses = (
        *_recompute(exact),
        *_other_dtype(setting.judge, use),
        *_all_gpus(setting, use),
        *_multiply_adds(setting.judge, exact),
    )
    return slips + guesses or (Caveat("unexplained", {"use": use}),)


def plausible(use: float) -> bool:
    """Whether well-made training programs have reached as much, and not less."""
    return PLAUSIBLE[0] <= use <= PLAUSIBLE[1]


def _peak_slips(judge: Judge, use: float) -> Iterator[Caveat]:
    """A typed peak that is not the GPU's own, what it is instead, and the use against its own."""
    if not judge.stated:
        return
    typed = judge.peak_flops_per_s
    rows = [row for row in judge.rows if judge.dtype in row.peaks]
    own = {row.id: row.peaks[judge.dtype].flops_per_s for row in rows}
    if any(_equal(typed, dense) for dense in own.values()):
        return
    for code, factor in (("sparse-peak", 2.0), ("halved-peak", 0.5)):
        for gpu, dense in own.items():
            if _equal(typed, factor * dense):
                found: Values = {"typed": typed, "dense": dense, "use": use * typed / dense}
                yield Caveat(code, {**found, "gpu": gpu})
                break
    yield from _peak_of_other_dtype(judge, use)


def _peak_of_other_dtype(judge: Judge, use: float) -> Iterator[Caveat]:
    typed = judge.peak_flops_per_s
    for dtype in TRAINED_IN:
        for row in judge.rows:
            if dtype in row.peaks and _equal(typed, row.peaks[dtype].flops_per_s):
                found: Values = {"dtype": dtype, "used": judge.dtype, "typed": typed, "use": use}
                yield Caveat("other-dtype-typed", {**found, "gpu": row.id})
                return


def _equal(typed: float, known: float) -> bool:
    return math.isclose(typed, known, rel_tol=QUOTED)


def _recompute(exact: Reading) -> Iterator[Caveat]:
    if exact.mfu <= 1 < exact.hfu:
        yield Caveat("recompute", {"hfu": exact.hfu, "use": exact.mfu})


def _other_dtype(judge: Judge, use: float) -> Iterator[Caveat]:
    """The dtype whose peak makes the number plausible."""
    for dtype in TRAINED_IN:
        for row in judge.rows:
            if dtype != judge.dtype and dtype in row.peaks:
                peak = row.peaks[dtype].flops_per_s
                if plausible(fixed := use * judge.peak_flops_per_s / peak):
                    yield Caveat("other-dtype", {"dtype": dtype, "peak": peak, "use": fixed})
                    return


def _all_gpus(setting: Setting, use: float) -> Iterator[Caveat]:
    """How many GPUs it may have been whose tokens were counted."""
    for counts in (CLUSTERS, SMALLER):
        fitting = [n for n in counts if plausible(use / n)]
        if fitting:
            times = min(fitting, key=lambda n: abs(math.log(use / n / TYPICAL)))
            n_gpus = times * setting.n_gpus
            found = {"n_gpus": n_gpus, "counted": setting.n_gpus, "use": use / times}
            yield Caveat("all-gpus", found)
            return


def _multiply_adds(judge: Judge, exact: Reading) -> Iterator[Caveat]:
    if plausible(exact.hfu / 2):
        found: Values = {"use": exact.hfu / 2, "tokens_per_s": exact.tokens_per_s / 2}
        # A peak of the table counts a multiply-add as 2 FLOPs; one that was typed may not.
        if judge.stated:
            found["peak"] = 2 * judge.peak_flops_per_s
        yield Caveat("multiply-adds", found)


def _per_gpu(setting: Setting, exact: Reading) -> Iterator[Caveat]:
    """Whether the tokens may have been those of one GPU of several."""
    n_gpus, use = setting.n_gpus, exact.hfu * setting.n_gpus
    if exact.hfu < PLAUSIBLE[0] and n_gpus > 1 and plausible(use):
        tokens_per_s = exact.tokens_per_s * n_gpus
        yield Caveat("per-gpu", {"n_gpus": n_gpus, "use": use, "tokens_per_s": tokens_per_s})
