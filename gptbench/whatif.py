"""What a step's products and its attention would be otherwise: what has to be timed to advise it.

A size is what a layer reads or writes, such as the vocabulary: no number of rows, which a batch
decides. Kernels work on tiles; a size that is no multiple of them wastes a part of the last tile,
and rows that begin anywhere are slower to read. Whether that matters on a device is timed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gptbench.calibration import AttentionShape, Shape
from gptbench.config import DTYPE_BYTES, Workload
from gptbench.profiling import Profiled, Work

# Tiles of products: what a GPU's kernels want, and twice of it.
MULTIPLES = (64, 128)

# A size that has to grow by more to be a multiple is another model.
MOST_GROWTH = 1 / 16

# Products that take less of the step are not timed again.
COSTLY = 0.01

# How attention that is written out keeps tokens from seeing the future.
_MASKS = re.compile(r"aten::(masked_fill|where|tril|triu)_?")


@dataclass(frozen=True, slots=True)
class WrittenOut:
    """Attention in a module that writes its scores to memory: what it computes, how often a step.

    `scores_bytes` is what one call writes.
    """

    module: str | None
    shape: AttentionShape
    calls: int
    scores_bytes: int


def dtype(work: Work, workload: Workload) -> str:
    """The number format that a product multiplied in: 'tf32' is one of its own."""
    if workload.tf32 and work.number in (None, "float32"):
        return "tf32"
    return work.number or workload.dtype


def by_dtype(profiled: Profiled, workload: Workload) -> dict[str, tuple[Shape, ...]]:
    """Every product of the step once, by the number format that multiplied it."""
    found: dict[str, dict[Shape, None]] = defaultdict(dict)
    for work in profiled.work:
        name = dtype(work, workload)
        if work.product is not None and work.flops and (name in DTYPE_BYTES or name == "tf32"):
            found[name][work.product] = None
    return {name: tuple(shapes) for name, shapes in found.items()}


def costly(profiled: Profiled) -> frozenset[Shape]:
    """Shapes whose products take enough of the step to be worth a second look."""
    taken: dict[Shape, int] = defaultdict(int)
    for work in profiled.work:
        if work.product is not None and work.flops:
            taken[work.product] += sum(work.ns)
    least = COSTLY * sum(profiled.profiled_ns)
    return frozenset(shape for shape, ns in taken.items() if ns >= least)


def rows(work: Iterable[Work]) -> frozenset[int]:
    """Rows of the left operands of forward products: what a batch decides."""
    return frozenset(w.product.m for w in _forward(work) if w.product is not None)


def sizes(work: Sequence[Work]) -> tuple[int, ...]:
    """What layers read and write, the largest first."""
    of_batch = rows(work)
    found = {n for w in _forward(work) if w.product for n in (w.product.k, w.product.n)}
    return tuple(sorted(found - of_batch, reverse=True))


def rounded_up(size: int) -> tuple[int, ...]:
    """The next multiples of MULTIPLES, as far as the size may grow; none where it is both."""
    up = {-(-size // tile) * tile for tile in MULTIPLES}
    return tuple(sorted(n for n in up if size < n <= (1 + MOST_GROWTH) * size))


def padded(shape: Shape, size: int, to: int) -> Shape:
    """The product with a size that is another."""
    m, k, n = (to if number == size else number for number in (shape.m, shape.k, shape.n))
    return replace(shape, m=m, k=k, n=n)


def has(shape: Shape, size: int) -> bool:
    """Whether a layer's product has the size."""
    return shape.batch == 1 and size in (shape.m, shape.k, shape.n)


def doubled(shape: Shape) -> Shape:
    """The product of a batch twice as large: the gradient of a weight sums over twice the rows."""
    if shape.batch > 1:
        return replace(shape, batch=2 * shape.batch)
    if shape.layout == "TN":
        return replace(shape, k=2 * shape.k)
    return replace(shape, m=2 * shape.m)


def written_out(work: Sequence[Work], workload: Workload) -> tuple[WrittenOut, ...]:
    """Attention that is two batched products with a softmax between them, module by module."""
    found = []
    for module in dict.fromkeys(w.module for w in work if w.kind == "softmax"):
        own = [w for w in work if w.module == module and w.direction == "forward"]
        batched = [w for w in own if w.product is not None and w.product.batch > 1]
        pair = next(((s, v) for s in batched for v in batched if _follows(s, v)), None)
        if pair is None or pair[0].product is None:
            continue
        scores = pair[0].product
        per_row = scores.batch % workload.batch_size == 0
        batch = workload.batch_size if per_row else scores.batch
        shape = AttentionShape(
            batch=batch,
            heads=scores.batch // batch,
            queries=scores.m,
            keys=scores.n,
            d_head=scores.k,
            causal=scores.m == scores.n and any(_MASKS.fullmatch(w.operator) for w in own),
            backward=workload.mode == "train",
        )
        numbers = scores.batch * scores.m * scores.n
        number = DTYPE_BYTES.get(pair[0].number or workload.dtype, 4)
        found.append(WrittenOut(module, shape, pair[0].calls, number * numbers))
    return tuple(found)


def of_scores(work: Work, one: WrittenOut) -> bool:
    """Whether the operator reads and writes the scores, which the kernel never does."""
    if work.module != one.module or work.direction == "recompute":
        return False
    if work.kind == "gemm":
        return work.product is not None and work.product.batch > 1
    if work.kind == "softmax":
        return True
    if work.kind not in ("elementwise", "copy", "activation") or not work.moved_bytes:
        return False
    return work.moved_bytes >= 2 * work.calls * one.scores_bytes


def _follows(scores: Work, values: Work) -> bool:
    """Whether the one product's result may be what the other weighs its values by."""
    s, v = scores.product, values.product
    if s is None or v is None or scores is values:
        return False
    return (s.batch, s.m, s.n, s.k) == (v.batch, v.m, v.k, v.n)


def _forward(work: Iterable[Work]) -> list[Work]:
    """Forward products of layers; those of attention heads are batched."""
    return [
        w
        for w in work
        if w.direction == "forward" and w.product is not None and w.product.batch == 1
    ]
