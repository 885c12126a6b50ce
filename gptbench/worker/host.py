"""What a Linux host did between two moments, read from /proc and /sys.

Every source is optional: a container, a virtual machine or another system lacks some of them.
`root` is the root of the file system, which a test replaces.
"""

import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gptbench import cgroup, cores
from gptbench.telemetry import Host

ROOT = Path("/")
OWN = cores.affinity()

# Columns of the line 'cpu' of /proc/stat that are work (proc(5)); guests are in user and nice.
BUSY = ("user", "nice", "system", "irq", "softirq")
COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Counters at one moment; None where the system has none.

    `busy_ns` and `stolen_ns` are of `cores` logical cores: those that the process may run on.
    """

    at_ns: int
    own_ns: int
    cores: int | None
    busy_ns: int | None
    pressure_ns: int | None
    stolen_ns: int | None
    throttled_periods: int | None
    involuntary_switches: int | None
    major_faults: int | None


def now(root: Path = ROOT, own: frozenset[int] | None = OWN) -> Moment:
    """All counters, read one after another: about a tenth of a millisecond.

    `own` are the cores that the process may run on; None for all of them.
    """
    by_core = _ticks(root, own)
    ticks = {name: sum(core[name] for core in by_core) for name in COLUMNS} if by_core else {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Moment(
        at_ns=time.monotonic_ns(),
        own_ns=time.process_time_ns(),
        cores=len(by_core) or None,
        busy_ns=sum(ticks[name] for name in BUSY) if ticks else None,
        stolen_ns=ticks.get("steal"),
        pressure_ns=_pressure_ns(root),
        throttled_periods=cgroup.count("cpu", "cpu.stat", "nr_throttled", root),
        involuntary_switches=usage.ru_nivcsw,
        major_faults=usage.ru_majflt,
    )


def between(before: Moment, after: Moment, threads: int = 1) -> Host:
    """What happened from one moment to another, in a process of so many threads."""

    def grown(read: Callable[[Moment], int | None]) -> int | None:
        first, last = read(before), read(after)
        # A counter that went back is another one: of a process that was moved, a host that slept.
        return None if first is None or last is None or last < first else last - first

    return Host(
        wall_ns=max(1, after.at_ns - before.at_ns),
        own_ns=after.own_ns - before.own_ns,
        threads=threads,
        cores=after.cores,
        busy_ns=grown(lambda m: m.busy_ns),
        pressure_ns=grown(lambda m: m.pressure_ns),
        stolen_ns=grown(lambda m: m.stolen_ns),
        throttled_periods=grown(lambda m: m.throttled_periods),
        involuntary_switches=grown(lambda m: m.involuntary_switches),
        major_faults=grown(lambda m: m.major_faults),
    )


def missing(moment: Moment) -> dict[str, str]:
    """What this system does not tell, each with the place where it would stand."""
    places = {
        "busy_ns": "/proc/stat",
        "stolen_ns": "/proc/stat",
        "pressure_ns": "/proc/pressure/cpu",
        "throttled_periods": "the cgroup's cpu.stat",
        "involuntary_switches": "getrusage",
        "major_faults": "getrusage",
    }
    return {
        name: f"{place} does not tell"
        for name, place in places.items()
        if getattr(moment, name) is None
    }


def cpu_clock_hz(root: Path = ROOT, own: frozenset[int] | None = None) -> int | None:
    """The mean clock of the cores in `own`, or of all, where the kernel tells."""
    folder = root / "sys/devices/system/cpu"
    names = ["cpu[0-9]*"] if own is None else [f"cpu{number}" for number in sorted(own)]
    files = [file for name in names for file in folder.glob(f"{name}/cpufreq/scaling_cur_freq")]
    khz = [int(text) for text in map(_text, files) if text is not None and text.strip().isdigit()]
    return round(sum(khz) / len(khz) * 1000) if khz else None


def _ticks(root: Path, own: frozenset[int] | None) -> list[dict[str, int]]:
    """Nanoseconds by what each of the cores did, of /proc/stat; empty where there is none.

    All cores where some of `own` are not there: a container may number them anew.
    """
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    by_core = {}
    for line in (_text(root / "proc/stat") or "").splitlines():
        name, *ticks = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdigit() and len(ticks) >= len(COLUMNS):
            told = zip(COLUMNS, ticks, strict=False)
            by_core[int(name[3:])] = {column: int(count) * tick_ns for column, count in told}
    if own is None or not own <= by_core.keys():
        return list(by_core.values())
    return [by_core[number] for number in sorted(own)]


def _pressure_ns(root: Path) -> int | None:
    for line in (_text(root / "proc/pressure/cpu") or "").splitlines():
        if line.startswith("some "):
            return int(line.rpartition("total=")[2]) * 1000
    return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
