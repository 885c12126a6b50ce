"""Energy counters, read at the edges of a window: a GPU board's, or a CPU's RAPL.

A counter that cannot be read, does not move or is too coarse for the window gives no energy but a
reason. No energy is never 0 joules.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from gptbench.telemetry import Energy
from gptbench.units import seconds

# A window of fewer updates of the counter may miss over a tenth of itself at its ends.
FEWEST_UPDATES = 20

# A counter of RAPL may not go round unseen: it is trusted for as long as this power fills it.
MOST_W = 1000.0

# The model-specific registers of RAPL are updated about every millisecond (Intel SDM 3B, 16.10).
RAPL_UPDATE_NS = 1_000_000


class Counter(Protocol):
    """Joules since some moment; None where they cannot be read."""

    def read_j(self) -> float | None: ...


class BoardCounter:
    """A GPU's counter, which never wraps: NVML's 64 bits of millijoules."""

    def __init__(self, read: Callable[[], float | None]) -> None:
        self._read = read

    def read_j(self) -> float | None:
        return self._read()


class RaplCounter:
    """The sum of RAPL domains; each may wrap once between two reads."""

    def __init__(self, domains: Sequence[Path]) -> None:
        self._ranges = {d: int((d / "max_energy_range_uj").read_text()) for d in domains}
        self._last: dict[Path, int] = {}
        self._total_uj = 0

    def read_j(self) -> float | None:
        try:
            now = {d: int((d / "energy_uj").read_text()) for d in self._ranges}
        except (OSError, ValueError):
            return None
        for domain, value in now.items():
            wraps_at = self._ranges[domain]
            self._total_uj += (value - self._last.get(domain, value)) % (wraps_at + 1)
            self._last[domain] = value
        return self._total_uj / 1e6

    @property
    def longest_s(self) -> float:
        """Seconds between two reads in which no domain can have wrapped twice."""
        return min(self._ranges.values()) / 1e6 / MOST_W


def rapl(root: Path = Path("/")) -> tuple[RaplCounter | None, str]:
    """The counter of all CPU packages and their memory, or why there is none."""
    found = [
        zone
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        if _name(zone).startswith("package") or _name(zone) == "dram"
    ]
    if not found:
        return None, "this machine has no RAPL counter"
    try:
        counter = RaplCounter(found)
    except (OSError, ValueError):
        return None, "RAPL's counters do not tell their range"
    if counter.read_j() is None:
        return None, "RAPL's counters can be read by root only"
    return counter, ""


@dataclass(frozen=True, slots=True)
class Source:
    """A counter, what it is called, what it counts, and how often it moves.

    Between two reads it must not go on for longer than `longest_s`: it might go round unseen.
    """

    counter: Counter
    name: str
    scope: Literal["GPU board", "CPU packages"]
    update_ns: int
    longest_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Reading:
    """What a counter said, and when."""

    at_ns: int
    joules: float | None


def used(source: Source, readings: Sequence[Reading]) -> Energy:
    """The energy between the first and the last reading of a counter, or why it is not known."""
    over_ns = readings[-1].at_ns - readings[0].at_ns
    first, last = readings[0].joules, readings[-1].joules
    if first is None or last is None:
        return none(f"{source.name} cannot be read", over_ns)
    if over_ns < FEWEST_UPDATES * source.update_ns:
        every = seconds(source.update_ns / 1e9)
        updates = f"{FEWEST_UPDATES} updates of {source.name}, every {every}"
        return none(f"the window is shorter than {updates}", over_ns)
    gap_ns = max(after.at_ns - before.at_ns for before, after in itertools.pairwise(readings))
    if gap_ns > source.longest_s * 1e9:
        return none(f"{source.name} may have gone round between two reads", over_ns)
    joules = last - first
    if joules <= 0:
        return none(f"{source.name} did not move", over_ns)
    return Energy(
        joules=joules,
        over_ns=over_ns,
        source=source.name,
        scope=source.scope,
        error_j=joules * source.update_ns / over_ns,
    )


def none(reason: str, over_ns: int) -> Energy:
    """No energy, and why."""
    return Energy(joules=None, over_ns=over_ns, reason=reason)


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""
