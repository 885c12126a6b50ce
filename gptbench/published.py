"""The question of `gptbench mfu`: what a published or logged throughput amounts to.

From words to values, and from values to the published JSON. The arithmetic is in `utilization`,
what can be wrong with the numbers in `diagnosis`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gptbench import config, device, diagnosis, models, utilization
from gptbench.config import Recompute, Workload
from gptbench.device import Device
from gptbench.errors import ImpossibleMfuError, QuestionError
from gptbench.trust import Caveat
from gptbench.units import parse_count, parse_flops_per_s, parse_fraction, percent, si
from gptbench.utilization import Judge, Reading, Setting
from gptbench.yardstick import DTYPE_SHORT


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The command's words as they were typed; None is not typed.

    Either `tokens_per_s`, of all GPUs together, or `mfu`; `tokens` are those of the whole training.
    """

    model: str
    tokens_per_s: str | None = None
    mfu: str | None = None
    tokens: str | None = None
    gpu: str | None = None
    n_gpus: int = 1
    seq_len: int | None = None
    dtype: str = "bfloat16"
    recompute: Recompute = "none"
    peak: str | None = None
    devices: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A run under every convention. `claimed_mfu` is what was asked about, None for a throughput.

    `tokens` is how many the whole training reads, None where nobody asked for its time.
    """

    setting: Setting
    readings: tuple[Reading, ...]
    claimed_mfu: float | None
    tokens: float | None
    diagnoses: tuple[Caveat, ...]

    @property
    def exact(self) -> Reading:
        return utilization.exact(self.readings)

    def time_s(self, reading: Reading) -> float | None:
        """Seconds that the whole training takes at the throughput of a reading."""
        return None if self.tokens is None else self.tokens / reading.tokens_per_s

    def gpu_hours(self, reading: Reading) -> float | None:
        """What it costs: hours of one GPU."""
        time_s = self.time_s(reading)
        return None if time_s is None else time_s * self.setting.n_gpus / 3600


def answer(question: Question) -> Answer:
    """The answer to a question. Raises QuestionError for one that cannot be understood."""
    if (question.tokens_per_s is None) == (question.mfu is None):
        raise QuestionError(
            "Type --tokens-per-s with the throughput that was measured, or --mfu with the "
            "utilization that was claimed: exactly one of the two."
        )
    setting = _setting(question)
    tokens = None if question.tokens is None else parse_count(question.tokens)
    if question.mfu is None:
        claimed = None
        readings = utilization.from_throughput(setting, parse_count(question.tokens_per_s or ""))
        diagnose = diagnosis.of_throughput
    else:
        claimed = parse_fraction(question.mfu)
        readings = utilization.from_mfu(setting, claimed)
        diagnose = diagnosis.of_mfu
    return Answer(
        setting=setting,
        readings=readings,
        claimed_mfu=claimed,
        tokens=tokens,
        diagnoses=diagnose(setting, utilization.exact(readings)),
    )


def _setting(question: Question) -> Setting:
    model = models.load(question.model)
    seq_len = question.seq_len or model.n_ctx
    config.check_fits_context(model, Workload(batch_size=1, seq_len=seq_len))
    return Setting(
        model=model,
        seq_len=seq_len,
        n_gpus=question.n_gpus,
        recompute=question.recompute,
        judge=judge(question),
    )


def judge(question: Question) -> Judge:
    """The peak that a run is judged by. Raises QuestionError where it is not known for sure."""
    dtype = _dtype(question.dtype)
    if question.gpu is None and question.peak is None:
        raise QuestionError(
            "an MFU needs a peak. Type --gpu with a name, such as a100 ('gptbench gpus' has them), "
            "or --peak with a rate, such as 125TFLOP/s."
        )
    rows = () if question.gpu is None else device.find(question.gpu, device.table(question.devices))
    name = rows[0].name if len(rows) == 1 else question.gpu or "GPU"
    if question.peak is None:
        rate, source = _table_peak(question.gpu or "", rows, dtype)
    else:
        rate, source = parse_flops_per_s(question.peak), f"stated: --peak {question.peak}"
    return Judge(
        name=name,
        dtype=dtype,
        peak_flops_per_s=rate,
        peak_source=source,
        stated=question.peak is not None,
        rows=rows,
    )


def _dtype(text: str) -> str:
    known = device.PEAK_COLUMNS.values()
    name = DTYPE_SHORT.get(text.lower(), text.lower())
    if name not in known:
        words = ", ".join((*known, *DTYPE_SHORT))
        raise QuestionError(f"unknown dtype {text!r}. Type one of: {words}.")
    return name


def _table_peak(gpu: str, rows: tuple[Device, ...], dtype: str) -> tuple[float, str]:
    """The one peak that all the rows have, with its source."""
    peaks = {row.id: row.peaks[dtype].flops_per_s for row in rows if dtype in row.peaks}
    if not peaks:
        known = ", ".join(dict.fromkeys(name for row in rows for name in row.peaks))
        raise QuestionError(
            f"{gpu!r} has no known {dtype} peak. Type --dtype with one of: {known}; or --peak with "
            "the dense rate."
        )
    if len(peaks) < len(rows) or len(set(peaks.values())) > 1:
        each = ", ".join(f"{name} {si(rate, 'FLOP/s')}" for name, rate in peaks.items())
        raise QuestionError(
            f"{gpu!r} stands for GPUs of different {dtype} peaks: {each}. Type --gpu with one of "
            "these ids."
        )
    source = rows[0].peaks[dtype].source
    ids = rows[0].id if len(rows) == 1 else f"all {len(rows)} variants of {gpu}"
    return next(iter(peaks.values())), f"{ids}, dense {dtype}: {source}"


def refuse_impossible(found: Answer) -> None:
    """Raise ImpossibleMfuError where the GPUs would have done more than they can."""
    if not diagnosis.impossible(found.setting, found.exact):
        return
    exact, by = found.exact, found.setting.judge
    recomputed = found.setting.recompute != "none"
    name, use = ("HFU", exact.hfu) if recomputed else ("MFU", exact.mfu)
    rate = si(use * by.peak_flops_per_s, "FLOP/s")
    raise ImpossibleMfuError(
        f"an {name} of {percent(use)} is impossible: {rate} on each GPU against a peak of "
        f"{si(by.peak_flops_per_s, 'FLOP/s')} ({by.peak_source.rstrip('.')})."
    )


def document(found: Answer) -> dict[str, Any]:
    """The answer under the keys that `gptbench mfu --format json` publishes."""
    setting, by = found.setting, found.setting.judge
    return {
        "model": asdict(setting.model),
        "workload": {
            "mode": "train",
            "seq_len": setting.seq_len,
            "dtype": by.dtype,
            "recompute": setting.recompute,
            "n_gpus": setting.n_gpus,
            "tokens": found.tokens,
        },
        "device": {
            "name": by.name,
            "peak_flops_per_s": by.peak_flops_per_s,
            "peak_source": by.peak_source,
        },
        "conventions": {r.convention.key: _numbers(found, r) for r in found.readings},
        "diagnoses": [{"code": c.code, **c.values} for c in found.diagnoses],
    }


def _numbers(found: Answer, reading: Reading) -> dict[str, float | None]:
    return {
        "flops_per_token": reading.flops_per_token,
        "mfu": reading.mfu,
        "hfu": reading.hfu,
        "model_flops_per_s": reading.model_flops_per_s,
        "tokens_per_s": reading.tokens_per_s,
        "time_s": found.time_s(reading),
        "gpu_hours": found.gpu_hours(reading),
    }
