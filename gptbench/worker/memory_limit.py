"""How much memory a step needs, and a limit on it that is real.

On CUDA the caching allocator counts and limits. On a CPU the kernel does: the peak of resident
memory (VmHWM) is reset and read, and RLIMIT_DATA makes an allocation above the limit fail where
it is asked for, as a GPU's does, instead of letting the machine swap or kill.
"""

import resource
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5), /proc/[pid]/clear_refs


def limit(device: torch.device, limit_bytes: int) -> None:
    """From here on this process may allocate `limit_bytes` more, and no byte above."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total), device)
        return
    start_up = _status_bytes("VmData")
    if start_up is not None:
        ceiling = start_up + limit_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (ceiling, ceiling))


class PeakMemory:
    """The most memory held since this was made: allocated bytes on CUDA, else resident ones."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text(_RESET_PEAK)
        self._start_bytes = _status_bytes("VmRSS")

    def read_bytes(self) -> int | None:
        """None where the system does not tell."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        peak = _status_bytes("VmHWM")
        if peak is None or self._start_bytes is None:
            return None
        return max(0, peak - self._start_bytes)


def _status_bytes(field: str) -> int | None:
    """A field of /proc/self/status, which counts in kB of 1024; None on systems without it."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
