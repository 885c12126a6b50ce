"""Times copies over memory, and what it costs to launch anything at all.

The four kernels are STREAM's (McCalpin 1995): copy, scale, add, triad; a sum reads and writes
nothing.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gptbench.calibration import CACHES, Effort, Launch, Transfer
from gptbench.worker import rounds
from gptbench.worker.clock import Clock
from gptbench.worker.rounds import Call

# Arrays that each kernel reads and writes.
ARRAYS = {"copy": 2, "scale": 2, "add": 3, "triad": 3, "sum": 1}
HELD = 3

CPUS = Path("/sys/devices/system/cpu")


def transfers(
    device: torch.device, size_bytes: int, cache_bytes: int | None, clock: Clock, effort: Effort
) -> tuple[Transfer, ...]:
    """The time of each kernel over arrays of so many bytes, which no cache may hold."""
    assert size_bytes >= CACHES * (cache_bytes or 0), "copies within a cache say nothing of memory"
    calls = kernels(device, size_bytes)
    taken = rounds.timed(list(calls.values()), clock, effort)
    return tuple(
        Transfer(name=name, moved_bytes=ARRAYS[name] * size_bytes, time=time)
        for name, time in zip(calls, taken, strict=True)
    )


def kernels(device: torch.device, size_bytes: int) -> Mapping[str, Call]:
    """The kernels over float32 arrays, in the order of ARRAYS."""
    a, b, c = (torch.rand(size_bytes // 4, device=device) for _ in range(HELD))
    total = torch.empty((), device=device)
    return {
        "copy": lambda: c.copy_(a),
        "scale": lambda: torch.mul(c, 0.5, out=b),
        "add": lambda: torch.add(a, b, out=c),
        "triad": lambda: torch.add(b, c, alpha=0.5, out=a),
        "sum": lambda: torch.sum(a, dim=0, out=total),
    }


def launches(device: torch.device, clock: Clock, effort: Effort) -> tuple[Launch, ...]:
    """What the smallest operator costs, and on a GPU a kernel that does nothing.

    Calls follow one another: on a GPU it is how often one can start, not how long one takes to.
    """
    number = torch.ones(1, device=device)
    calls: dict[str, Call] = {"smallest operator": number.neg_}
    if device.type == "cuda":
        calls["empty kernel"] = lambda: torch.cuda._sleep(0)  # type: ignore[no-untyped-call]
    taken = rounds.timed(list(calls.values()), clock, effort)
    return tuple(Launch(name=n, time=time) for n, time in zip(calls, taken, strict=True))


def last_level_cache(device: torch.device, cuda: Any = torch.cuda) -> int | None:
    """Bytes of the last cache before memory; None where the system does not tell."""
    if device.type == "cuda":
        size = getattr(cuda.get_device_properties(device), "L2_cache_size", None)
        return int(size) if size else None
    return host_cache(CPUS)


def host_cache(cpus: Path) -> int | None:
    """Bytes of the largest level of cache of all processors, as Linux tells.

    A processor of several parts has one such cache each, which several cores share: each counts
    once, and all of them together may hold an array.
    """
    found: dict[tuple[int, str], int] = {}
    for index in cpus.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level = int((index / "level").read_text())
            shared = (index / "shared_cpu_list").read_text().strip()
            size = _bytes((index / "size").read_text())
        except (OSError, ValueError):  # a virtual machine may hide any of them
            continue
        found[level, shared] = size
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last) or None


def _bytes(text: str) -> int:
    """'32768K' -> 33554432. Raises ValueError for what is no size."""
    match = re.fullmatch(r"\s*(\d+)([KMG]?)\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
