"""What fits into a device, and what would make room in it: each by predicting the step again."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from gptbench import memory
from gptbench.config import Dtype, ModelConfig, Workload
from gptbench.device import Device
from gptbench.errors import OutOfMemoryError, QuestionError, UnavailableError
from gptbench.memory import Component, Footprint, Moment, Setup
from gptbench.units import gib

# Of a fused linear cross-entropy, such as Liger Kernel's (arXiv:2410.10989): few enough to be as
# fast, and enough for the logits not to matter.
LOSS_CHUNKS = 8

# What the driver and the kernels' code take of a GPU before the first tensor: 0.3 to 0.6 GB.
CONTEXT_BYTES = 512 << 20


# What a device trains in where nobody says: the first of these that it multiplies.
SUITABLE: tuple[Dtype, ...] = ("bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Case:
    """A step whose bytes are predicted."""

    model: ModelConfig
    work: Workload
    setup: Setup

    @property
    def footprint(self) -> Footprint:
        return memory.footprint(self.model, self.work, self.setup)

    def largest_batch(self, limit_bytes: int) -> int:
        return memory.largest_batch(self.model, self.work, limit_bytes, self.setup)


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that could be done otherwise, and what it would leave.

    `largest_batch` is None where no device was named.
    """

    option: str
    saved_bytes: int
    total_bytes: int
    largest_batch: int | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """What tensors may take of a device, and the number format that suits it."""

    device: str
    size_bytes: int
    dtype: Dtype


def limit(devices: tuple[Device, ...]) -> Limit:
    """What all of the devices have, less the driver's own.

    Raises UnavailableError where the table does not know it, and QuestionError where they differ.
    """
    sizes = {d.id: d.memory_bytes for d in devices}
    if len(set(sizes.values())) > 1:
        names = ", ".join(map(repr, sizes))
        raise QuestionError(f"these differ in their memory: {names}. Type --gpu with one of them.")
    name, size = next(iter(sizes.items()))
    if size is None:
        raise UnavailableError(f"the table has no memory for {name!r}.")
    float32: Dtype = "float32"
    suitable = next((dtype for dtype in SUITABLE if dtype in devices[0].peaks), float32)
    return Limit(name, size - CONTEXT_BYTES, suitable)


def advice(case: Case, allowed: Limit | None = None) -> tuple[Advice, ...]:
    """What would make room, most first; what is done already, or makes none, is left out."""
    now = case.footprint.total
    found = []
    for option, other in _others(case):
        total = other.footprint.total
        if total < now:
            most = other.largest_batch(allowed.size_bytes) if allowed else None
            found.append(Advice(option, now - total, total, most))
    return tuple(sorted(found, key=lambda one: -one.saved_bytes))


def _others(case: Case) -> Iterable[tuple[str, Case]]:
    """(what a person would type or do, the case with that one thing changed)."""
    work, setup = case.work, case.setup
    if work.attention == "math" and not case.model.attention_sinks:
        yield "--attention fused", replace(case, work=replace(work, attention="fused"))
    if work.dtype == "float32":
        cast = replace(work, dtype="bfloat16", autocast=True)
        yield "--dtype bfloat16", replace(case, work=cast)
    if work.autocast:
        yield "--pure", replace(case, work=replace(work, autocast=False))
    if work.mode != "train":
        return
    for what in ("attention", "block"):
        if work.recompute not in (what, "block"):
            yield f"--recompute {what}", replace(case, work=replace(work, recompute=what))
    if setup.optimizer in ("adamw", "adamw-master"):
        yield "--optimizer adamw-bf16", replace(case, setup=replace(setup, optimizer="adamw-bf16"))
    chunked = replace(setup, loss_chunks=LOSS_CHUNKS)
    yield f"the loss in {LOSS_CHUNKS} chunks", replace(case, setup=chunked)


def largest_batch(case: Case, allowed: Limit) -> int:
    """The most sequences that should fit. Raises OutOfMemoryError where not even one does."""
    most = case.largest_batch(allowed.size_bytes)
    if most == 0:
        raise OutOfMemoryError(_nothing_fits(case, allowed))
    return most


def _nothing_fits(case: Case, allowed: Limit) -> str:
    one = replace(case, work=case.work.with_batch(1))
    needs = (
        f"even batch 1 needs {gib(one.footprint.total)}, the limit is {gib(allowed.size_bytes)} "
        f"({allowed.device}, less {gib(CONTEXT_BYTES)} for its driver)."
    )
    fit = [(name, o) for name, o in _others(one) if o.footprint.total <= allowed.size_bytes]
    if fit:
        options = ", ".join(f"{name} ({gib(other.footprint.total)})" for name, other in fit)
        return f"{needs} By the same arithmetic these would fit, each alone: {options}."
    options = ", ".join(found.option for found in advice(one))
    total = gib(_all_at_once(one).footprint.total)
    tried = f"; {options} at once need {total}" if options else ""
    return f"{needs} No option alone would make it fit{tried}. Type a smaller model or --seq-len."


def _all_at_once(case: Case) -> Case:
    """Everything changed that makes room."""
    useful = {found.option for found in advice(case)}
    done: set[str] = set()
    while step := next(((n, o) for n, o in _others(case) if n in useful - done), None):
        done.add(step[0])
        case = step[1]
    return case


def document(case: Case, found: tuple[Advice, ...], most: int | None) -> dict[str, Any]:
    """The published JSON. `memory` is in bytes; its `total` is the peak's, not the others' sum."""
    held = case.footprint
    return {
        "model": asdict(case.model),
        "workload": {**asdict(case.work), "tokens": case.work.tokens},
        "setup": asdict(case.setup),
        "memory": {
            "parameters": held.parameters,
            "gradients": held.gradients,
            "optimizer": held.optimizer,
            "activations": held.activations,
            "kv_cache": held.kv_cache,
            "logits": held.logits,
            "overhead": held.peak.overhead,
            "total": held.total,
        },
        "peak": held.peak.name,
        "moments": [_moment(moment) for moment in held.moments],
        "components": [_component(component) for component in held.components],
        "advice": [asdict(one) for one in found],
        "largest_batch": most,
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {"name": moment.name, **moment.sizes, "total": moment.total}


def _component(component: Component) -> dict[str, Any]:
    return {
        **asdict(component),
        "layer_bytes": component.layer_bytes,
        "total_bytes": component.total_bytes,
    }
