"""The largest batch that fits, proven by two trials: N ran, and N + 1 did not.

Pure over `probe`, which tries a batch size in a fresh process; in one process a failed trial
leaves memory behind that makes the next one fail too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from gptbench.errors import OutOfMemoryError
from gptbench.record import BatchSearch, Probe
from gptbench.units import gib

LARGEST = 1 << 20

# Extrapolating further than this from what was seen is guessing.
MAX_LEAP = 8

# After so many probes the memory is no line in the batch size: halve the gap instead.
BISECT_AFTER = 14


@dataclass(frozen=True, slots=True)
class Limit:
    """How much memory a step may take, and who says so."""

    size_bytes: int
    source: str


@dataclass(slots=True)
class _Search:
    """What is known so far. `fits` is the largest that ran, `fails` the smallest that did not."""

    largest: int
    probes: list[Probe] = field(default_factory=list)

    @property
    def fits(self) -> int:
        return max((p.batch_size for p in self.probes if p.fits), default=0)

    @property
    def fails(self) -> int | None:
        return min((p.batch_size for p in self.probes if not p.fits), default=None)

    @property
    def done(self) -> bool:
        return self.fits >= self.largest or self.fails == self.fits + 1

    def line(self) -> tuple[float, float] | None:
        """(bytes at no sequence, bytes a sequence) through the largest that ran and one well below.

        Two neighbours would make a slope of the allocator's rounding.
        """
        ran = sorted(
            (p.batch_size, p.peak_memory_bytes)
            for p in self.probes
            if p.fits and p.peak_memory_bytes is not None
        )
        if len(ran) < 2:
            return None
        b2, m2 = ran[-1]
        b1, m1 = next((p for p in reversed(ran) if 4 * p[0] <= 3 * b2), ran[-2])
        slope = (m2 - m1) / (b2 - b1)
        return (m2 - slope * b2, slope) if slope > 0 else None


def search(
    probe: Callable[[int], Probe],
    limit: Limit,
    prior: tuple[float, float],
    largest: int = LARGEST,
) -> BatchSearch:
    """The certified largest batch size up to `largest`.

    `prior` is the predicted memory as (bytes at no sequence, bytes a sequence): it chooses the
    first two trials, the line through what was then seen chooses the rest, and only trials decide.
    Raises OutOfMemoryError where not even one sequence fits.
    """
    known = _Search(largest=largest)
    guess = (limit.size_bytes - prior[0]) / prior[1]
    step_up = step_down = 1
    for first in (guess / 8, 0.6 * guess):
        b = _between(1, int(first), largest)
        if known.done or b <= known.fits or (known.fails is not None and b >= known.fails):
            continue
        known.probes.append(probe(b))
    while not known.done:
        low, high, line = known.fits, known.fails, known.line()
        b = 2 * low if high is None else (low + high) // 2
        if line is not None:
            b = int((limit.size_bytes - line[0]) / line[1])
            b = min(b, MAX_LEAP * low)
        if high is not None and b >= high:
            b, step_down = high - step_down, 2 * step_down
        elif b <= low:
            b, step_up = low + step_up, 2 * step_up
        if high is not None:
            b = _between(low + 1, b, high - 1)
            if len(known.probes) > BISECT_AFTER:
                b = (low + high) // 2
        known.probes.append(probe(_between(1, b, largest)))
    if known.fits == 0:
        raise OutOfMemoryError(_nothing_fits(known, limit, prior))
    return BatchSearch(
        max_batch_size=known.fits,
        limit_bytes=limit.size_bytes,
        limit_source=limit.source,
        probes=tuple(known.probes),
        stopped_by="out of memory" if known.fails == known.fits + 1 else "largest asked for",
    )


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _nothing_fits(known: _Search, limit: Limit, prior: tuple[float, float]) -> str:
    reason = next(p.reason for p in known.probes if p.batch_size == 1)
    return (
        f"even batch 1 does not fit into {gib(limit.size_bytes)} ({limit.source}): about "
        f"{gib(prior[0] + prior[1])} are needed ({reason}). Type a smaller --seq-len, a smaller "
        "model, or a larger --memory-limit."
    )
