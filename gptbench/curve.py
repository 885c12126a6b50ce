"""How fast each batch size is, and which to use: the smallest within 1% of the fastest.

Larger batches fill a device better until it is full; beyond that they cost memory and give
nothing. Pure over `measure`, which runs a round of steps of a batch size in a process of its own.

Every size is measured once, from the smallest to the largest. Those that may still be the fastest
are measured again, in the other direction, so that a machine that slows down as it warms up does
not decide; the median of a size's rounds is its speed.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gptbench.config import Workload
from gptbench.errors import OutOfMemoryError
from gptbench.record import CurvePoint

# As fast as the fastest: what a person would not give memory for.
ALIKE = 0.01

# What one round may be wrong by; a size that is slower by more is not measured again.
CONTENDS = 0.05

ROUNDS = 3

# A round of one batch size, and the peak of its memory; None where it ran out of memory after all,
# or hung, as the edge of what fits may over more steps than a trial has.
Measure = Callable[[int], CurvePoint | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Speeds:
    """Units a second of a batch size: the median round, the slowest and the fastest; `n` steps.

    What so few rounds reach is a range, and no interval that anybody could be confident of.
    """

    median: float
    low: float
    high: float
    n: int


def candidates(largest: int, multiple: int = 1) -> tuple[int, ...]:
    """Batch sizes worth measuring: powers of two times `multiple`, and the largest.

    Three quarters of the largest stand between, where the last power of two is below that.
    """
    sizes = {largest}
    size = multiple
    while size <= largest:
        sizes.add(size)
        size *= 2
    between = 3 * largest // 4 // multiple * multiple
    if between > size // 2 * 1.25:
        sizes.add(between)
    return tuple(sorted(sizes))


def measured(sizes: Sequence[int], measure: Measure) -> tuple[CurvePoint, ...]:
    """The curve over the batch sizes that ran in every round, from the smallest to the largest.

    Raises OutOfMemoryError where none did.
    """
    points: dict[int, CurvePoint] = {}
    for number in range(ROUNDS):
        again = sorted(sizes) if number == 0 else _contenders(points.values())
        for size in again if number % 2 == 0 else reversed(again):
            found, before = measure(size), points.pop(size, None)
            if found is not None:
                points[size] = _joined(before, found) if before else found
        if not points:
            sizes_tried = ", ".join(map(str, sizes))
            raise OutOfMemoryError(
                f"the batch sizes {sizes_tried} fitted two steps, and none fitted a longer round. "
                "Type --auto-batch without '=throughput', or a larger --memory-limit."
            )
    return tuple(points[size] for size in sorted(points))


def sequences_per_s(point: CurvePoint) -> float:
    """The median over the rounds of a point."""
    return statistics.median(_speeds(point))


def spread(point: CurvePoint) -> float:
    """How far the fastest round of a point is above its slowest one, as a share of the median."""
    speeds = _speeds(point)
    return (max(speeds) - min(speeds)) / statistics.median(speeds)


def tokens_per_s(point: CurvePoint, work: Workload) -> Speeds:
    """The speed of a point in tokens, from its slowest round to its fastest."""
    tokens = work.with_batch(1).tokens
    speeds = _speeds(point)
    return Speeds(
        median=tokens * statistics.median(speeds),
        low=tokens * min(speeds),
        high=tokens * max(speeds),
        n=sum(r.steps for r in point.rounds),
    )


def chosen(points: Sequence[CurvePoint]) -> int:
    """The smallest batch size that is as fast as the fastest."""
    best = max(map(sequences_per_s, points))
    return min(p.batch_size for p in points if sequences_per_s(p) >= (1 - ALIKE) * best)


def _contenders(points: Iterable[CurvePoint]) -> list[int]:
    """Batch sizes that may still be the fastest, or as fast: nobody else needs another round."""
    speeds = {p.batch_size: sequences_per_s(p) for p in points}
    best = max(speeds.values())
    return sorted(size for size, speed in speeds.items() if speed >= (1 - CONTENDS) * best)


def _joined(one: CurvePoint, other: CurvePoint) -> CurvePoint:
    peaks = [p for p in (one.peak_memory_bytes, other.peak_memory_bytes) if p is not None]
    return replace(
        one, rounds=one.rounds + other.rounds, peak_memory_bytes=max(peaks, default=None)
    )


def _speeds(point: CurvePoint) -> list[float]:
    return [point.batch_size * r.steps / (r.window_ns / 1e9) for r in point.rounds]
