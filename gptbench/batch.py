"""The largest batch that fits, proven by two trials: N ran, and N + 1 did not.

Of multiples of a number M, N ran and N + M did not.

Pure over `probe`, which tries a batch size in a fresh process; in one process a failed trial
leaves memory behind that makes the next one fail too.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gptbench.errors import OutOfMemoryError
from gptbench.record import BatchSearch, Probe
from gptbench.units import gib

LARGEST = 1 << 20

# Extrapolating further than this from what was seen is guessing.
MAX_LEAP = 8

# Parts of the predicted edge that are tried first. Far enough apart for a slope, and small enough
# to be quick: a trial costs as much as it has sequences.
FIRST_SHARES = (1 / 8, 0.35)

# How much longer the next step is where the line was wrong.
STRIDE = 3

# After so many probes the memory is no line in the batch size: halve the gap instead.
BISECT_AFTER = 14


@dataclass(frozen=True, slots=True)
class Limit:
    """How much memory a step may take, and who says so."""

    size_bytes: int
    source: str


@dataclass(slots=True)
class _Search:
    """What is known so far, in multiples.

    `fits` is the largest that ran, `fails` the smallest that did not.
    """

    largest: int
    multiple: int
    probes: list[Probe] = field(default_factory=list)

    @property
    def fits(self) -> int:
        return max((p.batch_size for p in self.probes if p.fits), default=0) // self.multiple

    @property
    def fails(self) -> int | None:
        failed = [p.batch_size // self.multiple for p in self.probes if not p.fits]
        return min(failed, default=None)

    @property
    def done(self) -> bool:
        return self.fits >= self.largest or self.fails == self.fits + 1

    @property
    def end(self) -> Literal["out of memory", "largest asked for", "hung"]:
        """Why a search that is done has found the largest."""
        if self.fails != self.fits + 1:
            return "largest asked for"
        (over,) = (p for p in self.probes if p.batch_size == self.fails * self.multiple)
        return "hung" if over.hung else "out of memory"

    def line(self) -> tuple[float, float] | None:
        """(bytes at no sequence, bytes a multiple) through the largest that ran and one well below.

        Two neighbours would make a slope of the allocator's rounding.
        """
        ran = sorted(
            (p.batch_size // self.multiple, p.held_bytes)
            for p in self.probes
            if p.fits and p.held_bytes is not None
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
    prior: tuple[float, float] | None,
    largest: int = LARGEST,
    multiple: int = 1,
) -> BatchSearch:
    """The certified largest batch size up to `largest` that is a multiple of `multiple`.

    `prior` is the predicted memory as (bytes at no sequence, bytes a sequence): it chooses the
    first two trials, which are the smallest where nothing could be predicted; the line through what
    was then seen chooses the rest, and only trials decide.
    Raises OutOfMemoryError where not even one multiple fits; a probe that raises ends the search.
    """
    known = _Search(largest=max(1, largest // multiple), multiple=multiple)

    def attempt(multiples: int) -> None:
        known.probes.append(probe(multiples * multiple))

    if prior is not None:
        _first_two(known, attempt, (limit.size_bytes - prior[0]) / (prior[1] * multiple))
    _close_in(known, attempt, limit)
    if known.fits == 0:
        raise OutOfMemoryError(_nothing_fits(known, limit))
    return BatchSearch(
        max_batch_size=known.fits * multiple,
        limit_bytes=limit.size_bytes,
        limit_source=limit.source,
        probes=tuple(known.probes),
        stopped_by=known.end,
        multiple=multiple,
    )


def _first_two(known: _Search, attempt: Callable[[int], None], guess: float) -> None:
    """Two trials well below the predicted edge, for the slope and the intercept of the memory."""
    for share in FIRST_SHARES:
        b = _between(1, int(share * guess), known.largest)
        if known.done or b <= known.fits or (known.fails is not None and b >= known.fails):
            continue
        attempt(b)


def _close_in(known: _Search, attempt: Callable[[int], None], limit: Limit) -> None:
    """Trials at the edge that the line through what was seen points to, until it is found.

    Where the line points outside of what is left, because the device holds more than it reports,
    steps from that side grow until one crosses the edge; what is then left is halved.
    """
    step_up = step_down = 1
    crossing: bool | None = None  # the outcome of a trial that a step has taken over the edge
    trusted = True
    while not known.done:
        low, high, line = known.fits, known.fails, known.line()
        if crossing is not None and known.probes[-1].fits is crossing:
            trusted = False
        b = 2 * low if high is None else (low + high) // 2
        if line is not None and trusted and len(known.probes) <= BISECT_AFTER:
            b = int((limit.size_bytes - line[0]) / line[1])
            # One too many costs less than one too few: it runs out before its step is over, and
            # is half of the certificate either way.
            b = min(b + (high is None), MAX_LEAP * low)
            if high is not None and b >= high:
                b, step_down, crossing = high - step_down, STRIDE * step_down, True
            elif b <= low:
                b, step_up, crossing = low + step_up, STRIDE * step_up, False
        if high is not None:
            b = _between(low + 1, b, high - 1)
        attempt(_between(1, b, known.largest))


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _nothing_fits(known: _Search, limit: Limit) -> str:
    least = known.multiple
    reason = next(p.reason for p in known.probes if p.batch_size == least)
    return (
        f"even batch {least} does not fit: the limit is {gib(limit.size_bytes)} "
        f"({limit.source}). It ended so: {(reason or 'without a word').rstrip('.')}."
    )
