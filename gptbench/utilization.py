"""MFU and HFU of a reported training run, under every convention: no torch, no measurement.

MFU is model FLOP/s over the peak of the GPUs, HFU the same with what is computed again
(Chowdhery et al. 2022, arXiv:2204.02311, App. B; Korthikanti et al. 2022, arXiv:2205.05198).
"""

from dataclasses import dataclass

from gptbench import conventions
from gptbench.config import ModelConfig, Recompute, Workload
from gptbench.conventions import Convention
from gptbench.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """The GPU that a run is judged by: its dense peak for one dtype.

    `rows` are the rows of the peak table that `name` stands for, none where only a peak was
    stated; all have the same peak for `dtype` unless it is `stated`.
    """

    name: str
    dtype: str
    peak_flops_per_s: float
    peak_source: str
    stated: bool
    rows: tuple[Device, ...]

    @property
    def boosts(self) -> bool:
        """Whether the card runs above the clock that its peak is stated for."""
        return not self.stated and any(row.boosts for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What ran where: one model on `n_gpus` equal GPUs, sequences of `seq_len` tokens."""

    model: ModelConfig
    seq_len: int
    n_gpus: int
    recompute: Recompute
    judge: Judge

    @property
    def work(self) -> Workload:
        return Workload(batch_size=1, seq_len=self.seq_len, recompute=self.recompute)

    @property
    def peak_flops_per_s(self) -> float:
        """Of all GPUs together."""
        return self.n_gpus * self.judge.peak_flops_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A run by one convention. `tokens_per_s` are of all GPUs, `model_flops_per_s` of one."""

    convention: Convention
    flops_per_token: float
    tokens_per_s: float
    model_flops_per_s: float
    mfu: float
    hfu: float


def from_throughput(setting: Setting, tokens_per_s: float) -> tuple[Reading, ...]:
    """What a throughput amounts to, in the order of the conventions."""
    counts = conventions.counts(setting.model, setting.work)
    return tuple(_reading(setting, c, counts[c.key], tokens_per_s) for c in conventions.TABLE)


def from_mfu(setting: Setting, mfu: float) -> tuple[Reading, ...]:
    """What throughput an MFU amounts to, for each convention by which it may have been counted."""
    flops_per_s = mfu * setting.peak_flops_per_s
    counts = conventions.counts(setting.model, setting.work)
    return tuple(
        _reading(setting, c, counts[c.key], flops_per_s / counts[c.key]) for c in conventions.TABLE
    )


def exact(readings: tuple[Reading, ...]) -> Reading:
    """The reading by the ledger's own count."""
    return next(r for r in readings if r.convention is conventions.EXACT)


def _reading(
    setting: Setting, convention: Convention, flops_per_token: float, tokens_per_s: float
) -> Reading:
    flops_per_s = flops_per_token * tokens_per_s
    mfu = flops_per_s / setting.peak_flops_per_s
    return Reading(
        convention=convention,
        flops_per_token=flops_per_token,
        tokens_per_s=tokens_per_s,
        model_flops_per_s=flops_per_s / setting.n_gpus,
        mfu=mfu,
        hfu=mfu * (1 + conventions.recomputed_share(setting.model, setting.work, convention)),
    )
