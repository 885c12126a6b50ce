"""Which device this is and what surrounds it, as its driver and the system tell.

NVML is asked by UUID, because CUDA_VISIBLE_DEVICES renumbers devices; where it is missing the
answer is None and never a guess.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pynvml
import torch

from gptbench.errors import UnavailableError
from gptbench.record import Detected, DetectTask
from gptbench.units import gib
from gptbench.worker import calibrate

# Settings that change what is measured, and are therefore part of the result.
RELEVANT_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_PROC_BIND",
    "KMP_AFFINITY",
    "GLIBC_TUNABLES",
    "MALLOC_CONF",
    "LD_PRELOAD",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)


def detect(task: DetectTask, progress: Callable[[str, float], None]) -> Detected:
    """The device that a task would run on. Raises UnavailableError where CUDA is asked for in vain."""
    if task.device == "cuda" and not torch.cuda.is_available():
        raise UnavailableError(f"there is no CUDA device here: {_why_no_cuda()}.")
    use_cuda = task.device == "cuda" or (task.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if use_cuda else "cpu")
    rate, shape = None, ""
    if task.peak_dtype is not None and not use_cuda:
        progress(f"measuring the {task.peak_dtype} peak", calibrate.peak_expected_s())
        rate, shape = calibrate.matmul_peak(device, task.peak_dtype)
    facts = _cuda_facts(device) if use_cuda else _cpu_facts()
    return Detected(
        **facts,
        matmul_flops_per_s=rate,
        matmul_shape=shape,
        environment=environment(device),
    )


def _cuda_facts(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    # Volta multiplies bfloat16 by emulation: torch calls that supported, the peak table does not.
    native_bfloat16 = properties.major >= 8 or torch.version.hip is not None
    return {
        "kind": "cuda",
        "name": properties.name,
        "units": properties.multi_processor_count,
        "memory_bytes": total,
        "free_bytes": free,
        "has_bfloat16": native_bfloat16,
        "has_float16": properties.major >= 7 or torch.version.hip is not None,
        "has_tf32": properties.major >= 8 and torch.version.hip is None,
        "uuid": str(getattr(properties, "uuid", "")) or None,
        "power_limit_w": _power_limit_w(properties),
        "others": _other_processes(properties),
    }


def _cpu_facts() -> dict[str, Any]:
    memory = psutil.virtual_memory()
    return {
        "kind": "cpu",
        "name": cpu_name(),
        "units": torch.get_num_threads(),
        "memory_bytes": memory.total,
        "free_bytes": _free_host_bytes(memory.available),
        "has_bfloat16": False,
        "has_float16": False,
    }


def _free_host_bytes(available: int) -> int:
    """What is available, or what a container's limit leaves of it."""
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # no such hierarchy, or 'max'
            continue
        return max(0, min(available, left))
    return available


def cpu_name() -> str:
    """The processor's model as the kernel names it, with the number of cores in use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {torch.get_num_threads()} threads"


def environment(device: torch.device) -> dict[str, str | int | float | None]:
    """Versions and settings that another person would need to see the same number."""
    facts: dict[str, str | int | float | None] = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }
    if device.type == "cuda":
        facts |= {
            "cuda": torch.version.cuda or torch.version.hip,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
            "driver": _driver_version(),
        }
    facts |= {name: os.environ[name] for name in RELEVANT_VARIABLES if name in os.environ}
    return facts


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _why_no_cuda() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"this torch ({torch.__version__}) is built without CUDA"
    with _nvml() as ready:
        if ready and pynvml.nvmlDeviceGetCount() > 0:
            return "the driver shows a GPU, but torch cannot use it (too old a driver, or none visible)"
    return "the driver shows no GPU"


@contextmanager
def _nvml() -> Iterator[bool]:
    """NVML for a moment; False where there is no NVIDIA driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _driver_version() -> str | None:
    with _nvml() as ready:
        return str(pynvml.nvmlSystemGetDriverVersion()) if ready else None


def _power_limit_w(properties: Any) -> float | None:
    """The power that the driver allows this GPU, in watts."""
    uuid = getattr(properties, "uuid", None)
    with _nvml() as ready:
        if not ready or uuid is None:
            return None
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            return float(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle)) / 1000
        except pynvml.NVMLError:
            return None


def _other_processes(properties: Any) -> tuple[str, ...]:
    """Other processes that hold memory of this GPU, largest first."""
    uuid = getattr(properties, "uuid", None)
    with _nvml() as ready:
        if not ready or uuid is None:
            return ()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            running = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except pynvml.NVMLError:
            return ()
    mine = os.getpid()
    held = [(p.usedGpuMemory or 0, p.pid) for p in running if p.pid != mine]
    return tuple(
        f"process {pid} holds {gib(size) if size else 'memory that the driver does not tell'}"
        for size, pid in sorted(held, reverse=True)
    )
