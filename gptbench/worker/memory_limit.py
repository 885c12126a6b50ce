"""How much memory a step needs, and a limit on it that is real.

On CUDA the caching allocator counts and limits. On a CPU the kernel does: the peak of resident
memory (VmHWM) is reset and read, and RLIMIT_DATA makes an allocation above the limit fail where
it is asked for, as a GPU's does, instead of letting the machine swap or kill.
"""

import resource
from dataclasses import dataclass
from pathlib import Path

import torch

from gptbench.errors import UnavailableError
from gptbench.units import gib

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), /proc/[pid]/clear_refs


def limit(device: torch.device, limit_bytes: int) -> None:
    """From here on this process may hold no byte more than it is allowed.

    On CUDA the caching allocator may reserve `limit_bytes` in all; on a CPU the process may
    allocate `limit_bytes` above what it holds already. Raises UnavailableError where the system
    knows no such limit, or has a lower one.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        # Of the current device: this call takes no torch.device without an index.
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total))
        return
    start_up = _status_bytes("VmData")
    if start_up is None:
        raise UnavailableError(
            "this system does not limit a process's memory, so the largest batch cannot be "
            "searched on its CPU. Type --batch-size."
        )
    ceiling = start_up + limit_bytes
    _, highest = resource.getrlimit(resource.RLIMIT_DATA)
    if highest != resource.RLIM_INFINITY and highest < ceiling:
        raise UnavailableError(
            f"a process may hold at most {gib(highest)} of data here (ulimit -Hd), and "
            f"{gib(start_up)} of it are torch. Type a --memory-limit below "
            f"{gib(max(0, highest - start_up))}."
        )
    resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that was held: by tensors, and where a caching allocator holds more, by that.

    `retries` are the times that the allocator had to give memory back before it could go on.
    """

    memory_bytes: int | None
    reserved_bytes: int | None = None
    retries: int = 0


class PeakMemory:
    """The most memory held since this was made: tensors' bytes on CUDA, else resident ones."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text(_RESET_PEAK)
        self._start_bytes = _status_bytes("VmRSS")

    def read(self) -> Peak:
        """The bytes are None where the system does not tell."""
        if self._device.type == "cuda":
            return Peak(
                memory_bytes=int(torch.cuda.max_memory_allocated(self._device)),
                reserved_bytes=int(torch.cuda.max_memory_reserved(self._device)),
                retries=int(torch.cuda.memory_stats(self._device).get("num_alloc_retries", 0)),
            )
        peak = _status_bytes("VmHWM")
        if peak is None or self._start_bytes is None:
            return Peak(memory_bytes=None)
        return Peak(memory_bytes=max(0, peak - self._start_bytes))


def _status_bytes(field: str) -> int | None:
    """A field of /proc/self/status, which counts in kB of 1024; None on systems without it."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
