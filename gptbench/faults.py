"""What a step does that none needs: it is the same step without it, and a faster one."""

from collections import defaultdict
from collections.abc import Iterator

from gptbench import telemetry, whatif
from gptbench.config import ModelConfig
from gptbench.evidence import Evidence, Finding, Saving, by_shape, error_s, scaled, total

# Of less it may be Python's own work, such as making a mask.
LEAST_PAUSE = 0.02

_READS = "aten::_local_scalar_dense"


def of(evidence: Evidence) -> Iterator[Finding]:
    """Every fault that the profile shows, however small."""
    yield from _data(evidence)
    yield from _syncs(evidence)
    yield from _pauses(evidence)
    yield from _mixed(evidence)
    yield from _attention(evidence)
    yield from _odd_sizes(evidence)
    yield from _optimizer(evidence)
    yield from _throttled(evidence)


def _data(evidence: Evidence) -> Iterator[Finding]:
    """Reading the next batch: beside the step it would be hidden, as far as it is the shorter.

    saving = min(data, step - data)
    """
    data_ns = evidence.part_ns("data")
    if data_ns > 0:
        saved = min(data_ns, evidence.step_ns - data_ns)
        yield evidence.finding("data", saved, "seen", data_ns=data_ns)


def _syncs(evidence: Evidence) -> Iterator[Finding]:
    """Numbers that the host reads from tensors, such as by .item().

    saving = the operators that read, and on a GPU the time in which the device had run dry
    meanwhile. That is a lower bound: a CPU has nothing to wait for, and behind a read in a module a
    GPU has no kernels queued until the host has launched some.
    """
    read = [(w, ns) for w, ns in evidence.waterfall.rows if w.operator == _READS]
    waited_ns = evidence.part_ns("sync")
    calls = sum(work.calls for work, _ in read)
    if not calls and not waited_ns:
        return
    inside = dict.fromkeys(work.module for work, _ in read if work.module is not None)
    modules = [module or "the model itself" for module in inside]
    yield evidence.finding(
        "sync",
        sum(ns for _, ns in read) + waited_ns,
        "seen",
        unseen=evidence.profile.device.kind == "cpu" or bool(modules),
        calls=calls,
        modules=len(modules),
        where=_named(modules),
    )


def _named(modules: list[str]) -> str:
    """The first module, and the last where there are more."""
    return modules[0] if len(modules) == 1 else " to ".join((modules[:1] + modules[-1:])[:2])


def _pauses(evidence: Evidence) -> Iterator[Finding]:
    """Modules in which the host does something else, such as sleep: all that it takes there."""
    slow = evidence.pauses_ns
    if sum(slow.values()) >= LEAST_PAUSE * evidence.step_ns:
        worst = max(slow, key=lambda module: slow[module])
        yield evidence.finding(
            "pause",
            sum(slow.values()),
            "seen",
            where=worst or "the model itself",
            modules=len(slow),
        )


def _mixed(evidence: Evidence) -> Iterator[Finding]:
    """Products in float32 within a model that multiplies in less.

    saving = Σ time in the step · (1 - alone in the workload's format / alone in float32)
    """
    workload = evidence.profile.workload
    if workload.dtype == "float32":
        return
    found = []
    for work, dtype, ns in evidence.products():
        assert work.product is not None
        before = evidence.alone(work.product, dtype)
        after = evidence.alone(work.product, workload.dtype)
        if dtype == "float32" and before and after:
            found.append((work, ns, scaled(ns, before, after)))
    saved = total(saving for _, _, saving in found)
    if found and saved.sure:
        modules = list(dict.fromkeys(work.module or "" for work, _, _ in found))
        yield evidence.finding(
            "mixed",
            saved.ns,
            "timed",
            error_ns=saved.error_ns,
            dtype=workload.dtype,
            calls=sum(work.calls for work, _, _ in found),
            where=_named([module or "outside of the model" for module in modules]),
            ns=sum(ns for _, ns, _ in found),
        )


def _attention(evidence: Evidence) -> Iterator[Finding]:
    """Attention that writes its scores to memory, where one kernel would not.

    saving = all that reads and writes as much as the scores in those modules, or multiplies a
    batch, less the kernel by itself, timed forward and, in training, backward, as often. What is
    recomputed is left out, since the kernel would be too.
    """
    work, profile = evidence.work, evidence.profile
    written_ns, fused_ns, error_ns = 0, 0.0, 0.0
    places = []
    for one in whatif.written_out(work, profile.workload):
        kernel = evidence.attention(one.shape)
        if kernel is None:
            continue
        places.append(one.module or "")
        fused_ns += one.calls * kernel.median_s * 1e9
        error_ns += one.calls * error_s(kernel) * 1e9
        written_ns += sum(ns for w, ns in evidence.waterfall.rows if whatif.of_scores(w, one))
    saved = Saving(written_ns - fused_ns, error_ns)
    if places and saved.sure:
        preset = isinstance(profile.model, ModelConfig) and not profile.model.attention_sinks
        yield evidence.finding(
            "attention",
            saved.ns,
            "timed",
            error_ns=error_ns,
            option="--attention fused" if preset else "",
            where=_named(places),
            modules=len(places),
            written_ns=written_ns,
            fused_ns=round(fused_ns),
        )


def _odd_sizes(evidence: Evidence) -> Iterator[Finding]:
    """Sizes of layers that are no multiple of a tile, where rounding them up is faster here.

    saving = Σ time in the step · (1 - padded alone / alone), the two in turns, over all products
    that have the size; of several multiples that which saves most
    """
    times = by_shape(evidence.profile.padded)
    for size in whatif.sizes(evidence.work):
        found: dict[int, Saving] = {}
        for up in whatif.rounded_up(size):
            savings = []
            for work, dtype, ns in evidence.products():
                shape = work.product
                if shape is None or not whatif.has(shape, size):
                    continue
                before = times.get((shape, dtype))
                after = times.get((whatif.padded(shape, size, up), dtype))
                if before and after:
                    savings.append(scaled(ns, before, after))
            if savings:
                found[up] = total(savings)
        if not found:
            continue
        best = max(found, key=lambda up: found[up].ns)
        if found[best].sure:
            yield evidence.finding(
                "padding",
                found[best].ns,
                "timed",
                error_ns=found[best].error_ns,
                size=size,
                padded=best,
                field=field_of(evidence, size),
                where=_where(evidence, size),
            )


def field_of(evidence: Evidence, size: int) -> str:
    """The field of a preset that is the size; '' where none is, or the model has no fields."""
    model = evidence.profile.model
    if not isinstance(model, ModelConfig):
        return ""
    fields = ("vocab_size", "d_ff", "d_model")
    return next((name for name in fields if getattr(model, name) == size), "")


def _where(evidence: Evidence, size: int) -> str:
    """The module whose products of the size take longest."""
    taken: dict[str, int] = defaultdict(int)
    for work, _, ns in evidence.products():
        if work.product is not None and whatif.has(work.product, size):
            taken[work.module or ""] += ns
    return max(taken, key=lambda module: taken[module], default="")


def _optimizer(evidence: Evidence) -> Iterator[Finding]:
    """An update of many small operators in place of a fused one.

    saving = its time less its bytes, 7 numbers a parameter, at the measured bandwidth
    """
    rows = [(w, ns) for w, ns in evidence.waterfall.rows if w.direction == "update" and w.calls]
    loose = [work for work, _ in rows if not work.operator.startswith("aten::_amp_")]
    part = next((p for p in evidence.waterfall.parts if p.key == "optimizer"), None)
    if not loose or part is None or part.ideal_ns is None:
        return
    if any(work.operator.startswith("aten::_fused_") for work, _ in rows):
        return
    yield evidence.finding(
        "optimizer",
        max(0, part.ns - part.ideal_ns),
        "bytes",
        calls=sum(work.calls for work, _ in rows),
        operator=max(loose, key=lambda work: work.calls).operator,
        ns=part.ns,
        ideal_ns=part.ideal_ns,
    )


def _throttled(evidence: Evidence) -> Iterator[Finding]:
    """A card whose clock was held down by heat or a fault.

    saving = time of products and attention · (1 - median clock / highest clock): what computes
    goes with the clock, what moves memory does not
    """
    seen = evidence.profile.profiled.telemetry
    reasons = telemetry.slowdowns(seen.samples) if seen else {}
    clock = telemetry.spread(seen.samples, lambda sample: sample.clock_hz) if seen else None
    if seen is None or not reasons or clock is None or not seen.max_clock_hz:
        return
    computing = sum(ns for _, ns in evidence.rows("gemm", "attention"))
    lost = max(0.0, 1 - clock.median / seen.max_clock_hz)
    yield evidence.finding(
        "throttled",
        computing * lost,
        "seen",
        reason=", ".join(reasons),
        clock_hz=clock.median,
        max_clock_hz=seen.max_clock_hz,
    )
