"""What a person may choose otherwise, and what it would gain: each has a price elsewhere.

Another number format rounds otherwise, another batch trains otherwise, compiled code takes minutes
to make, and what is not recomputed is kept.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from gptbench import memory, whatif
from gptbench.config import DTYPE_BYTES, ModelConfig, Workload
from gptbench.evidence import Evidence, Finding, scaled, total
from gptbench.memory import Setup
from gptbench.profiling import Class, Work

# A batch is below the knee where twice of it takes so much less time a token: further on, memory
# doubles for next to nothing.
KNEE = 0.05

# What Inductor makes one kernel of, where it follows one another.
_FUSIBLE: tuple[Class, ...] = ("norm", "activation", "softmax", "elementwise")
_REDUCTIONS = ("aten::sum", "aten::mean")

# A module of a list of layers, which is no head.
_IN_LAYERS = re.compile(r"\.\d+(\.|$)")

# A prediction of memory has to leave this much for what it does not know.
ROOM = 0.9


def of(evidence: Evidence) -> Iterator[Finding]:
    """Every choice that would gain something by the profile's numbers, however little."""
    yield from _formats(evidence)
    yield from _batch(evidence)
    yield from _compile(evidence)
    yield from _logits(evidence)
    yield from _recompute(evidence)


def _formats(evidence: Evidence) -> Iterator[Finding]:
    """float32 products in a format that this device multiplies faster.

    saving = Σ time in the step · (1 - alone in the format / alone in float32), less what casting
    weights and activations moves, at the measured bandwidth; TF32 casts nothing. What becomes of
    attention and of memory-bound work is not predicted.
    """
    workload = evidence.profile.workload
    if workload.dtype != "float32":
        return
    for dtype in ("tf32", "bfloat16", "float16"):
        savings, cast_bytes = [], 0
        for work, own, ns in evidence.products():
            assert work.product is not None
            before = evidence.alone(work.product, own)
            after = evidence.alone(work.product, dtype)
            if before and after and own != dtype:
                savings.append(scaled(ns, before, after))
                cast_bytes += _cast_bytes(work, workload)
        saved = total(savings)
        cast_ns = 0.0 if dtype == "tf32" else evidence.at_bandwidth_ns(cast_bytes)
        if not savings or not saved.sure or cast_ns is None or saved.ns <= cast_ns:
            continue
        yield evidence.finding(
            "dtype",
            saved.ns - cast_ns,
            "timed",
            error_ns=saved.error_ns,
            option="--tf32" if dtype == "tf32" else f"--dtype {dtype}",
            dtype=dtype,
            products=len(savings),
            cast_ns=round(cast_ns),
        )


def _cast_bytes(work: Work, workload: Workload) -> int:
    """What autocast moves around a layer's product: operands read in 4 bytes and written in 2.

    A forward product casts its input and its weight; in the backward what arrives is cast already,
    and the weight's gradient is cast back.
    """
    shape = work.product
    assert shape is not None
    both = DTYPE_BYTES["float32"] + DTYPE_BYTES["bfloat16"]
    if shape.batch > 1:
        return 0
    if work.direction in ("forward", "recompute"):
        return work.calls * both * (shape.m * shape.k + shape.k * shape.n)
    of_weight = shape.layout == "TN" and workload.mode == "train"
    return work.calls * both * shape.m * shape.n if of_weight else 0


def _batch(evidence: Evidence) -> Iterator[Finding]:
    """A batch twice as large, by the time of a token.

    saving = Σ time in the step · (1 - product of twice the rows alone / (2 · alone)) + half of what
    a step takes whatever its batch: the optimizer, and without pauses on the host and in launches
    """
    workload = evidence.profile.workload
    twice = workload.with_batch(2 * workload.batch_size)
    room = _room(evidence, twice)
    if room == "short":
        return
    savings = []
    for work, dtype, ns in evidence.products():
        assert work.product is not None
        before = evidence.alone(work.product, dtype)
        after = evidence.alone(whatif.doubled(work.product), dtype)
        if work.product.batch == 1 and before and after:
            savings.append(scaled(ns, before, after, per=2.0))
    products = total(savings)
    in_products = products.ns if products.sure else 0.0
    whatever = evidence.part_ns("optimizer", "host", "launch", "tail")
    constant = max(0.0, whatever - sum(evidence.pauses_ns.values())) / 2
    if in_products + constant >= KNEE * evidence.step_ns:
        yield evidence.finding(
            "batch",
            in_products + constant,
            "timed" if in_products else "seen",
            error_ns=products.error_ns if in_products else 0.0,
            option=f"--batch-size {twice.batch_size}",
            batch_size=workload.batch_size,
            larger=twice.batch_size,
            products_ns=round(in_products),
            constant_ns=round(constant),
            room=room,
        )


def _room(evidence: Evidence, work: Workload) -> Literal["enough", "short", "unknown"]:
    """Whether the step is predicted to fit; of someone's own module nobody knows."""
    profile = evidence.profile
    if not isinstance(profile.model, ModelConfig):
        return "unknown"
    needed = memory.footprint(profile.model, work, Setup(profile.device.kind)).total
    return "enough" if needed <= ROOM * profile.device.memory_bytes else "short"


def _compile(evidence: Evidence) -> Iterator[Finding]:
    """Operators that torch.compile would make one of.

    Of operators of a module and pass that move memory and follow one another, the largest stays:
    saving = Σ their time · (1 - bytes of the largest / Σ bytes). And between operators the host
    takes time for as many as vanish: saving = host time · those / all. `in_scores_ns` of it is in
    attention that is written out, which one kernel would save as well.
    """
    if evidence.profile.workload.compile:
        return
    groups: dict[tuple[str | None, str], list[tuple[Work, int]]] = defaultdict(list)
    for work, ns in evidence.rows(*_FUSIBLE):
        if work.module is not None and work.moved_bytes and work.operator not in _REDUCTIONS:
            groups[work.module, work.direction].append((work, ns))
    written = whatif.written_out(evidence.work, evidence.profile.workload)
    saved, in_scores, gone, moved = 0.0, 0.0, 0, 0
    for group in groups.values():
        others = [row for row in group if not any(whatif.of_scores(row[0], w) for w in written)]
        saved += _as_one_ns(group)
        in_scores += _as_one_ns(group) - _as_one_ns(others)
        sizes = [work.moved_bytes or 0 for work, _ in group]
        moved += sum(sizes) - max(sizes)
        gone += sum(work.calls for work, _ in group) - max(work.calls for work, _ in group)
    calls = sum(work.calls for work in evidence.work)
    if gone and calls:
        host = evidence.part_ns("host", "launch") * gone / calls
        yield evidence.finding(
            "compile",
            saved + host,
            "bytes",
            option="--compile",
            operators=gone,
            moved_bytes=moved,
            host_ns=round(host),
            in_scores_ns=round(in_scores),
        )


def _as_one_ns(group: list[tuple[Work, int]]) -> float:
    """What operators that follow one another save where only the largest is left."""
    sizes = [work.moved_bytes or 0 for work, _ in group]
    return sum(ns for _, ns in group) * (1 - max(sizes) / sum(sizes)) if sizes else 0.0


def _logits(evidence: Evidence) -> Iterator[Finding]:
    """Passes over the logits between the last product and its gradient.

    saving = the bytes that the loss moves beyond the least, at the measured bandwidth, and never
    more than it takes. The least is one read of the logits, and in training one write of their
    gradient, in the format of the products.
    """
    workload = evidence.profile.workload
    heads = [w for w in evidence.work if w.direction == "forward" and w.product is not None
             and w.product.batch == 1]  # fmt: skip
    if isinstance(evidence.profile.model, ModelConfig):
        size = evidence.profile.model.vocab_size
        heads = [w for w in heads if w.product and w.product.n == size]
    else:
        heads = [w for w in heads if not _IN_LAYERS.search(w.module or "")]
    if not heads:
        return
    head = max(heads, key=lambda w: w.product.m * w.product.n if w.product else 0)
    assert head.product is not None
    logits = head.product.m * head.product.n
    number = DTYPE_BYTES.get(head.number or workload.dtype, 4)
    rows = [
        (work, ns)
        for work, ns in evidence.rows("loss", "copy", "softmax")
        if (work.kind == "loss" or not work.module)
        and work.calls
        and (work.moved_bytes or 0) >= work.calls * number * logits
    ]
    if not any(work.kind == "loss" for work, _ in rows):
        return
    moved = sum(work.moved_bytes or 0 for work, _ in rows)
    passes = 2 if workload.mode == "train" else 1
    times = max(work.calls for work, _ in rows if work.kind == "loss")
    saved = evidence.at_bandwidth_ns(moved - times * passes * number * logits)
    taken = sum(ns for _, ns in rows)
    if saved is not None and saved > 0:
        yield evidence.finding(
            "logits",
            min(saved, taken),
            "bytes",
            moved_bytes=moved,
            rows=head.product.m,
            vocab_size=head.product.n,
            ns=taken,
        )


def _recompute(evidence: Evidence) -> Iterator[Finding]:
    """What the backward pass runs again though there is room to keep it.

    saving = the time of all that ran again; none where without it the step is predicted not to fit
    the device's memory
    """
    profile = evidence.profile
    again = sum(ns for work, ns in evidence.waterfall.rows if work.direction == "recompute")
    room = _room(evidence, replace(profile.workload, recompute="none"))
    if not again or room == "short":
        return
    yield evidence.finding(
        "recompute",
        again,
        "seen",
        option="--recompute none" if isinstance(profile.model, ModelConfig) else "",
        recompute=profile.workload.recompute,
        memory_bytes=profile.device.memory_bytes,
        room=room,
    )
