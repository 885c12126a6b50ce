"""Where the MFU went: a step's time divided without remainder, in integer nanoseconds.

    step = model FLOPs / P                          useful: the MFU
         + recomputed FLOPs / P - masked FLOPs / P  done beside, and counted but not done
         + products: F / A - F / P                  what no product reaches on this device
         + products: alone - F / A                  what their shapes lose by themselves
         + products: in the step - alone            what they lose in the step
         + attention: time - F / P
         + memory-bound work, optimizer, data, exposed communication, idle
         + unexplained

P is the peak, A the best rate of products measured here, F the FLOPs that really ran. Attention is
counted in full, so that under a causal mask some FLOPs are counted that no kernel does: a credit, a
negative part. Any other negative part says that a count, a peak or a time is wrong.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gptbench import counts, documents, flops, overpeak, stats, trust, whatif
from gptbench.calibration import Shape
from gptbench.profiling import BUSY, IDLE, Class, Profile, Work
from gptbench.stats import Interval
from gptbench.trust import Caveat

Kind = Literal["ideal", "credit", "loss", "memory", "idle", "unexplained"]

# Memory-bound work, in the order of a step.
MEMORY_BOUND: tuple[Class, ...] = (
    "embedding", "norm", "activation", "softmax", "elementwise", "copy", "loss", "optimizer",
)  # fmt: skip

# Numbers of an AdamW update: weight, gradient and two moments are read, all but the gradient
# written (Kingma and Ba 2015, arXiv:1412.6980, algorithm 1).
ADAMW_NUMBERS = 7

# A negative part, and a profile of another speed, are said from this share of the step on.
NEGATIVE_SHARE = 0.0005
MISMATCH = 0.05
UNEXPLAINED_SHARE = 0.05

# Products that take this much longer by themselves than in the step, of this share of all of them,
# were timed while something else ran.
SLOWER_ALONE = 1.1
SLOWER_SHARE = 0.5

# Parts that are told even where they are nothing.
ALWAYS = frozenset({"useful", "other"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the step; `ns` of a credit is negative.

    `moved_bytes` is what the part's work must move, at the least where it is not `bytes_complete`,
    and `ideal_ns` how long that takes at the measured bandwidth.
    """

    key: str
    kind: Kind
    ns: int
    moved_bytes: int | None = None
    bytes_complete: bool = True
    ideal_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductRow:
    """A shape of matrix products: its time in the step and, where it was timed, by itself.

    `dtype` is the number format that multiplied.
    """

    shape: Shape
    dtype: str
    directions: tuple[str, ...]
    calls: int
    ns: int
    alone_ns: int | None

    @property
    def flops_per_s(self) -> float | None:
        """What the shape reaches in the step."""
        return self.calls * self.shape.flops / self.ns * 1e9 if self.ns else None

    @property
    def alone_flops_per_s(self) -> float | None:
        """What it reaches by itself."""
        return self.calls * self.shape.flops / self.alone_ns * 1e9 if self.alone_ns else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waterfall:
    """The step as its parts, which sum to `step_ns` exactly. `rows` is the work they are made of.

    `step_time_s` is the median of the steps without the profiler with its interval, `profiled_ns` is the median step with the profiler on.
    """

    step_ns: int
    step_time_s: Interval
    profiled_ns: int
    parts: tuple[Part, ...]
    products: tuple[ProductRow, ...]
    rows: tuple[tuple[Work, int], ...]
    caveats: tuple[Caveat, ...]

    @property
    def overhead(self) -> float:
        """How much longer a step takes with the profiler, as a share."""
        return self.profiled_ns / self.step_ns - 1

    @property
    def unexplained(self) -> float:
        """The share of the step that nobody answers for."""
        return sum(p.ns for p in self.parts if p.kind == "unexplained") / self.step_ns


def apportion(weights: Sequence[int], total: int) -> tuple[int, ...]:
    """`total` in whole units by weights, by largest remainders: the units sum to it exactly.

    Weights may be negative, their sum may not. Of equal remainders the first is rounded up.
    """
    whole = sum(weights)
    if whole <= 0:
        raise ValueError("weights that sum to nothing divide nothing")
    floors = [weight * total // whole for weight in weights]
    left = [weight * total % whole for weight in weights]
    missing = total - sum(floors)
    for i in sorted(range(len(weights)), key=lambda i: -left[i])[:missing]:
        floors[i] += 1
    return tuple(floors)


def percentages(parts: Sequence[int]) -> tuple[float, ...]:
    """Shares in percent to one digit, which as they are printed add to 100.0."""
    return tuple(tenths / 10 for tenths in apportion(parts, 1000))


def reconciled(
    work: Sequence[Work], profiled_ns: int, step_ns: int, kind: Literal["cpu", "cuda"]
) -> tuple[tuple[Work, int], ...]:
    """The work of an average profiled step, with times that sum to the step without the profiler.

    What the profiler costs is the host's time, and goes first. A GPU's kernels do not know of it:
    between them there is as much idle time as the step leaves. A CPU's operators sum to their step
    whatever its speed, so that at another speed all of them are scaled.
    """
    times = list(apportion([sum(w.ns) for w in work], profiled_ns))
    idle = [i for i, w in enumerate(work) if w.kind in IDLE]
    busy = [i for i, w in enumerate(work) if w.kind not in IDLE]
    busy_ns = sum(times[i] for i in busy)
    idle_ns = sum(times[i] for i in idle)
    if busy_ns and (busy_ns >= step_ns or not idle_ns):
        _spread(times, idle, 0)
        _spread(times, busy, step_ns)
    elif profiled_ns >= step_ns or kind == "cuda":
        _spread(times, idle, step_ns - busy_ns)
    else:
        times = list(apportion(times, step_ns))
    return tuple(zip(work, times, strict=True))


def _spread(times: list[int], which: Sequence[int], total: int) -> None:
    """Let these have a total, in the proportions that they have."""
    if not which or not any(times[i] for i in which):
        return
    for i, ns in zip(which, apportion([times[i] for i in which], total), strict=True):
        times[i] = ns


def derive(profile: Profile) -> Waterfall:
    """The waterfall of a profile, computed afresh from its facts."""
    found = profile.profiled
    step_ns = statistics.median_low(found.step_ns)
    profiled_ns = statistics.median_low(found.profiled_ns)
    rows = reconciled(found.work, profiled_ns, step_ns, profile.device.kind)
    products = _products(rows, profile)
    by_class: dict[Class, int] = defaultdict(int)
    for work, ns in rows:
        by_class[work.kind] += ns
    parts = (*_compute(profile, rows, products, by_class), *_memory(profile, rows, by_class))
    parts = (*parts, *_rest(by_class))
    assert sum(part.ns for part in parts) == step_ns
    waterfall = Waterfall(
        step_ns=step_ns,
        step_time_s=stats.median_interval([ns / 1e9 for ns in found.step_ns]),
        profiled_ns=profiled_ns,
        parts=tuple(part for part in parts if part.ns or part.key in ALWAYS),
        products=products,
        rows=rows,
        caveats=(),
    )
    return _with_caveats(waterfall, profile)


def _products(rows: Iterable[tuple[Work, int]], profile: Profile) -> tuple[ProductRow, ...]:
    """The step's products by shape, those that take longest first."""
    alone = {(time.shape, time.dtype): time.time.median_s for time in profile.products.products}
    found: dict[tuple[Shape, str], tuple[set[str], int, int]] = {}
    for work, ns in rows:
        if work.product is not None and work.kind == "gemm":
            key = work.product, whatif.dtype(work, profile.workload)
            directions, calls, total = found.get(key, (set(), 0, 0))
            found[key] = directions | {work.direction}, calls + work.calls, total + ns
    return tuple(
        ProductRow(
            shape=key[0],
            dtype=key[1],
            directions=tuple(sorted(directions)),
            calls=calls,
            ns=ns,
            alone_ns=round(alone[key] * calls * 1e9) if key in alone else None,
        )
        for key, (directions, calls, ns) in sorted(found.items(), key=lambda item: -item[1][2])
    )


def _compute(
    profile: Profile,
    rows: Sequence[tuple[Work, int]],
    products: Sequence[ProductRow],
    by_class: dict[Class, int],
) -> tuple[Part, ...]:
    """Products and attention: what is ideal of them, and what they take over it."""
    peak = profile.device.peak_flops_per_s
    if peak is None:
        return (
            Part(key="products", kind="loss", ns=by_class["gemm"]),
            Part(key="attention", kind="loss", ns=by_class["attention"]),
        )

    def at_peak(count: int) -> int:
        return round(count / peak * 1e9)

    work = [w for w, _ in rows]
    model = counts.of(profile).flops.step
    again = sum(w.flops for w in work if w.direction == "recompute") + sum(w.again for w in work)
    masked = sum(w.masked for w in work)
    in_attention = sum(w.executed_flops for w in work if w.kind == "attention")
    in_products = model + again - masked - in_attention
    useful, repeated, credit = at_peak(model), at_peak(again), -at_peak(masked)
    ideal_attention = at_peak(in_attention)
    lost = by_class["gemm"] + ideal_attention - useful - repeated - credit
    # Where no product was timed, nothing says that the peak is out of reach.
    best_flops_per_s = reach(profile) or peak
    unreached = round(in_products / best_flops_per_s * 1e9) - at_peak(in_products)
    # What a shape reaches by itself is at least what it reached in the step.
    alone = by_class["gemm"] - sum(
        max(0, p.ns - p.alone_ns) for p in products if p.alone_ns is not None
    )
    shape = alone - round(in_products / best_flops_per_s * 1e9)
    return (
        Part(key="useful", kind="ideal", ns=useful),
        Part(key="recompute", kind="ideal", ns=repeated),
        Part(key="credit", kind="credit", ns=credit),
        Part(key="reach", kind="loss", ns=unreached),
        Part(key="shape", kind="loss", ns=shape),
        Part(key="context", kind="loss", ns=lost - unreached - shape),
        Part(key="attention", kind="loss", ns=by_class["attention"] - ideal_attention),
    )


def reach(profile: Profile) -> float | None:
    """The best rate that any product reached here by itself; None where none was timed."""
    dtype = profile.device.peak_dtype
    alone = [t.flops_per_s for t in profile.products.products if t.dtype == dtype]
    return max((profile.device.achievable_flops_per_s or 0.0, *alone)) or None


def _memory(
    profile: Profile, rows: Sequence[tuple[Work, int]], by_class: dict[Class, int]
) -> tuple[Part, ...]:
    """Memory-bound work by class, against the bytes that it must move."""
    bandwidth = profile.bandwidth_bytes_per_s
    found = []
    for kind in MEMORY_BOUND:
        own = [w for w, _ in rows if w.kind == kind and w.calls]
        moved = sum(w.moved_bytes or 0 for w in own)
        complete = all(w.moved_bytes is not None for w in own)
        if kind == "optimizer" and own:
            moved, complete = update_bytes(profile), True
        found.append(
            Part(
                key=kind,
                kind="memory",
                ns=by_class[kind],
                moved_bytes=moved or None,
                bytes_complete=complete,
                ideal_ns=round(moved / bandwidth * 1e9) if moved and bandwidth else None,
            )
        )
    return tuple(found)


def update_bytes(profile: Profile) -> int:
    """What an AdamW update must move: the profiler does not tell the sizes of lists."""
    work = profile.workload
    number = 4 if work.autocast or work.dtype == "float32" else 2
    return ADAMW_NUMBERS * number * counts.trained(profile)


def _rest(by_class: dict[Class, int]) -> tuple[Part, ...]:
    rest: tuple[Part, ...] = (Part(key="communication", kind="idle", ns=by_class["communication"]),)
    rest += tuple(Part(key=key, kind="idle", ns=by_class[key]) for key in IDLE)
    assert {*MEMORY_BOUND, "gemm", "attention", "communication", "other"} == set(BUSY)
    return (*rest, Part(key="other", kind="unexplained", ns=by_class["other"]))


def _with_caveats(waterfall: Waterfall, profile: Profile) -> Waterfall:
    found = []
    seen, step_ns = profile.profiled, waterfall.step_ns
    if profile.device.peak_flops_per_s is None:
        found.append(Caveat("peak-unknown", {"reason": profile.device.peak_source}))
    for part in waterfall.parts:
        if part.kind != "credit" and part.ns < -NEGATIVE_SHARE * step_ns:
            share = -part.ns / step_ns
            found.append(Caveat("negative-part", {"part": part.key, "share": share}))
    if abs(waterfall.overhead) > MISMATCH:
        found.append(Caveat("profile-mismatch", {"overhead": waterfall.overhead}))
    slower = sum(p.ns for p in waterfall.products if (p.alone_ns or 0) > SLOWER_ALONE * p.ns)
    in_products = sum(p.ns for p in waterfall.products)
    if slower > SLOWER_SHARE * in_products:
        found.append(Caveat("slower-alone", {"share": slower / in_products}))
    if seen.dropped:
        lost = Caveat("dropped-records", {"dropped": seen.dropped, "launches": seen.launches})
        found.append(lost)
    counted = sum(w.flops for w in seen.work if w.direction != "recompute")
    model = counts.of(profile).flops.step
    if counted != model:
        found.append(Caveat("flops-unseen", {"seen": counted, "model": model}))
    if seen.telemetry is not None:
        found += trust.beside(seen.telemetry, profile.device.kind)
    if waterfall.unexplained > UNEXPLAINED_SHARE:
        most = max((r for r in waterfall.rows if r[0].kind == "other"), key=lambda r: r[1])
        share, operator = waterfall.unexplained, most[0].operator
        found.append(Caveat("unexplained", {"share": share, "operator": operator}))
    return replace(waterfall, caveats=tuple(found))


def published(profile: Profile, waterfall: Waterfall) -> dict[str, Any]:
    """The JSON of a profile but for its modules: the facts, and beside them what they amount to."""
    step_ns = waterfall.step_ns
    shares = percentages([part.ns for part in waterfall.parts])
    facts: dict[str, Any] = documents.to_builtins(profile)
    return {
        **facts,
        "flops": flops.costed(counts.of(profile).flops),
        "result": {
            "step_time_s": step_ns / 1e9,
            "step_time_low_s": waterfall.step_time_s.low,
            "step_time_high_s": waterfall.step_time_s.high,
            "profiled_step_time_s": waterfall.profiled_ns / 1e9,
            "profiler_overhead": waterfall.overhead,
            "mfu": useful_share(waterfall, profile),
            "unexplained": waterfall.unexplained,
            "bandwidth_bytes_per_s": profile.bandwidth_bytes_per_s,
            "waterfall": [
                {**documents.to_builtins(part), "share": part.ns / step_ns, "percent": percent}
                for part, percent in zip(waterfall.parts, shares, strict=True)
            ],
            "products": [
                {
                    **documents.to_builtins(row),
                    "flops": row.calls * row.shape.flops,
                    "flops_per_s": row.flops_per_s,
                    "alone_flops_per_s": row.alone_flops_per_s,
                }
                for row in waterfall.products
            ],
            "caveats": [{"code": c.code, **c.values} for c in waterfall.caveats],
        },
    }


def useful_share(waterfall: Waterfall, profile: Profile) -> float | None:
    """The MFU of the median step; None where no peak is known."""
    peak = profile.device.peak_flops_per_s
    if peak is None:
        return None
    step = counts.of(profile).flops.step
    return step / peak / (waterfall.step_ns / 1e9)


def refuse_impossible(waterfall: Waterfall, profile: Profile) -> None:
    """Raise ImpossibleMfuError where the step's MFU is over 100% of a peak that is sure."""
    step_flops = counts.of(profile).flops.step
    rate = step_flops / waterfall.step_ns * 1e9
    overpeak.refuse(useful_share(waterfall, profile), rate, profile.device)
