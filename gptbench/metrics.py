"""From a record to the numbers people ask for: tokens/s, MFU, and what to beware of.

Everything here is arithmetic on stored facts. MFU is judged on the whole window, stalls and all;
the median beside it is what two runs are compared by (METHOD: two numbers, never one).
"""

from dataclasses import dataclass
from typing import Any

from gptbench import device, flops, record, stats
from gptbench.config import ModelConfig, Workload
from gptbench.errors import ImpossibleMfuError
from gptbench.flops import Parameters, StepFlops
from gptbench.record import DeviceUsed, Record

CONFIDENCE = 0.95

# A window's mean step this far over its median is stalls, not scatter.
STALL_RATIO = 1.05
FEW_STEPS = 10


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something a reader must know to read the numbers right: a code and the numbers it needs.

    `report.caveats` has the sentence for each code.
    """

    code: str
    values: dict[str, float | int | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What a record says. Rates are per second, fractions from 0 to 1, None is unknown.

    `tokens_per_s` and `step_time_s` are medians over steps with their within-run interval;
    `window_tokens_per_s` is all tokens over all wall time, and what MFU is computed from.
    """

    tokens_per_s: stats.Interval
    step_time_s: stats.Interval
    window_tokens_per_s: float
    flops: StepFlops
    parameters: Parameters
    peak_flops_per_s: float | None
    model_flops_per_s: float
    mfu: float | None
    hfu: float | None
    achievable_mfu: float | None
    outliers_mild: int
    outliers_severe: int
    stall_share: float
    caveats: tuple[Caveat, ...]


def derive(rec: Record) -> Metrics:
    """The metrics of a record, computed afresh from its facts."""
    model, work, taken = rec.model, rec.workload, rec.measurement
    step_s = stats.median_interval([ns / 1e9 for ns in taken.step_ns], CONFIDENCE)
    cost = flops.step_flops(model, work)
    window_s = taken.window_ns / 1e9
    steps_per_s = len(taken.step_ns) / window_s
    peak = current_peak(rec.device)
    achievable = rec.device.achievable_flops_per_s
    mild, severe = stats.tukey_outliers(taken.step_ns)
    mean_s = sum(taken.step_ns) / 1e9 / len(taken.step_ns)

    def share_of(rate: float | None, flops_per_step: int) -> float | None:
        return None if rate is None else flops_per_step * steps_per_s / rate

    metrics = Metrics(
        tokens_per_s=stats.Interval(
            median=work.tokens / step_s.median,
            low=work.tokens / step_s.high,
            high=work.tokens / step_s.low,
            n=step_s.n,
            n_effective=step_s.n_effective,
        ),
        step_time_s=step_s,
        window_tokens_per_s=work.tokens * steps_per_s,
        flops=cost,
        parameters=flops.parameters(model),
        peak_flops_per_s=peak,
        model_flops_per_s=cost.step * steps_per_s,
        mfu=share_of(peak, cost.step),
        hfu=share_of(peak, cost.hardware),
        achievable_mfu=share_of(achievable, cost.step),
        outliers_mild=mild,
        outliers_severe=severe,
        stall_share=max(0.0, 1 - step_s.median / mean_s),
        caveats=(),
    )
    return _with_caveats(metrics, rec)


def current_peak(used: DeviceUsed) -> float | None:
    """The peak of the record's device as the table has it today; else the one it was stored with."""
    if used.peak_origin == "table":
        for row in device.table():
            if row.id == used.id and used.peak_dtype in row.peaks:
                return row.peaks[used.peak_dtype].flops_per_s
    return used.peak_flops_per_s


def _with_caveats(metrics: Metrics, rec: Record) -> Metrics:
    found = []
    if metrics.mfu is None:
        found.append(Caveat("peak-unknown", {"reason": rec.device.peak_source}))
    if rec.device.peak_origin == "measured":
        found.append(Caveat("peak-measured", {"device": rec.device.name}))
    if metrics.mfu is not None and metrics.mfu > 1:
        code = "over-stated-clock" if rec.device.boosts else "over-peak"
        found.append(Caveat(code, {"mfu": metrics.mfu, "device": rec.device.name}))
    if metrics.stall_share > 1 - 1 / STALL_RATIO:
        found.append(Caveat("stalls", {"share": metrics.stall_share}))
    if metrics.outliers_severe:
        total = len(rec.measurement.step_ns)
        found.append(Caveat("outliers", {"severe": metrics.outliers_severe, "steps": total}))
    if metrics.step_time_s.n < FEW_STEPS:
        found.append(Caveat("few-steps", {"steps": metrics.step_time_s.n}))
    return _replace_caveats(metrics, tuple(found))


def _replace_caveats(metrics: Metrics, caveats: tuple[Caveat, ...]) -> Metrics:
    from_fields = {name: getattr(metrics, name) for name in Metrics.__dataclass_fields__}
    return Metrics(**{**from_fields, "caveats": caveats})


def refuse_impossible(metrics: Metrics, rec: Record) -> None:
    """Raise ImpossibleMfuError where the MFU is over 100% of a peak that is sure."""
    if metrics.mfu is None or metrics.mfu <= 1 or rec.device.boosts:
        return
    causes = {
        "table": f"is this really one {rec.device.name}, and did the matrix products run in "
        f"{rec.device.peak_dtype}? Look at 'gptbench gpus {rec.device.id}'",
        "stated": "the --peak given is too low for this device; leave it out, or look at "
        "'gptbench gpus'",
        "measured": "something else used the processor while its peak was measured; run it again "
        "on a quiet machine",
        "unknown": "",
    }[rec.device.peak_origin]
    raise ImpossibleMfuError(
        f"an MFU of {100 * metrics.mfu:.1f}% is impossible: {metrics.model_flops_per_s:.4g} FLOP/s "
        f"against a peak of {metrics.peak_flops_per_s:.4g} ({rec.device.peak_source}). Likely: "
        f"{causes}."
    )


def document(rec: Record, metrics: Metrics) -> dict[str, Any]:
    """The published JSON of a result: the record's facts, and beside them what they amount to."""
    facts: dict[str, Any] = record.to_builtins(rec)
    cost = metrics.flops
    return {
        **facts,
        "parameters": counted(metrics.parameters),
        "flops": {
            "forward": cost.forward,
            "backward": cost.backward,
            "recompute": cost.recompute,
            "step": cost.step,
            "per_token": cost.per_token,
        },
        "result": {
            "tokens_per_s": {
                **_interval(metrics.tokens_per_s),
                "window": metrics.window_tokens_per_s,
            },
            "step_time_s": _interval(metrics.step_time_s),
            "model_flops_per_s": metrics.model_flops_per_s,
            "mfu": metrics.mfu,
            "hfu": metrics.hfu,
            "achievable_mfu": metrics.achievable_mfu,
            "peak_memory_bytes": rec.measurement.peak_memory_bytes,
            "outliers": {"mild": metrics.outliers_mild, "severe": metrics.outliers_severe},
            "stall_share": metrics.stall_share,
            "samples": [ns / 1e9 for ns in rec.measurement.step_ns],
            "caveats": [{"code": c.code, **c.values} for c in metrics.caveats],
        },
    }


def _interval(interval: stats.Interval) -> dict[str, float | int | str]:
    return {
        "median": interval.median,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "confidence": CONFIDENCE,
        "scope": "within-run",
        "n": interval.n,
        "n_effective": interval.n_effective,
    }


def counted(parameters: Parameters) -> dict[str, int]:
    """Parameter counts under the keys that the JSON answers publish."""
    return {
        "total": parameters.total,
        "non_embedding": parameters.non_embedding,
        "active": parameters.active,
    }


def flops_document(model: ModelConfig, work: Workload) -> dict[str, Any]:
    """The published JSON of `gptbench flops`, without the checks."""
    cost = flops.step_flops(model, work)
    rows = flops.matmuls(model, work)
    passes = 2 if work.mode == "train" else 0
    components = [
        {
            "name": row.name,
            "count": row.count,
            "m": row.m,
            "k": row.k,
            "n": row.n,
            "forward": row.flops,
            "backward": passes * row.flops,
            "parameters": row.parameters,
        }
        for row in rows
    ]
    tables = [
        {
            "name": v.name,
            "count": v.count,
            "forward": 0,
            "backward": 0,
            "parameters": v.parameters,
        }
        for v in flops.vectors(model)
        if v.parameters
    ]
    return {
        "model": record.to_builtins(model),
        "workload": {
            "mode": work.mode,
            "batch_size": work.batch_size,
            "seq_len": work.seq_len,
        },
        "parameters": counted(flops.parameters(model)),
        "flops": {
            "forward": cost.forward,
            "backward": cost.backward,
            "recompute": cost.recompute,
            "step": cost.step,
            "per_token": cost.per_token,
        },
        "components": components + tables,
        "conventions": flops.conventions(model, work),
        "checks": [],
    }
