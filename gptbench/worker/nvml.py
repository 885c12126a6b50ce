"""NVIDIA's management library: what a card says of itself, read and never set.

A card is asked by UUID, because CUDA_VISIBLE_DEVICES renumbers devices. `library` is `pynvml`, or
something that behaves like it. What a card, a container or an old driver does not tell is None.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

from gptbench.units import gib

MHZ = 1_000_000

LIBRARY: Any = pynvml


@contextmanager
def started(library: Any = LIBRARY) -> Iterator[bool]:
    """NVML for a moment; False where there is no NVIDIA driver."""
    try:
        library.nvmlInit()
    except pynvml.NVMLError:
        yield False
        return
    try:
        yield True
    finally:
        library.nvmlShutdown()


def shows_a_gpu() -> bool:
    """Whether the driver knows of any GPU."""
    with started() as ready:
        return ready and pynvml.nvmlDeviceGetCount() > 0


def driver_version() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    with started() as ready:
        return str(pynvml.nvmlSystemGetDriverVersion()) if ready else None


def card(uuid: str, library: Any = LIBRARY) -> Any:
    """The handle of a card, or None. NVML must have been started.

    CUDA tells UUIDs without the prefix that NVML gives them: GPU- or, for a slice of one, MIG-.
    """
    for prefix in ("GPU-", "MIG-"):
        handle = told(library.nvmlDeviceGetHandleByUUID, f"{prefix}{uuid}")
        if handle is not None:
            return handle
    return None


def told(read: Callable[..., Any], *arguments: Any) -> Any:
    """What NVML answers, or None where this card or driver has no answer."""
    try:
        return read(*arguments)
    except pynvml.NVMLError:
        return None


def clock_hz(handle: Any, library: Any = LIBRARY) -> int | None:
    """The clock of the multiprocessors at this moment."""
    mhz = told(library.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM)
    return None if mhz is None else int(mhz) * MHZ


def energy_j(handle: Any, library: Any = LIBRARY) -> float | None:
    """The board's energy counter, which runs since the driver was loaded."""
    millijoules = told(library.nvmlDeviceGetTotalEnergyConsumption, handle)
    return None if millijoules is None else float(millijoules) / 1e3


def sampled(handle: Any, library: Any = LIBRARY) -> dict[str, Any]:
    """What a `telemetry.Sample` of a GPU holds, but for its time."""
    memory_mhz = told(library.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM)
    running = told(library.nvmlDeviceGetComputeRunningProcesses, handle)
    return {
        "clock_hz": clock_hz(handle, library),
        "memory_clock_hz": None if memory_mhz is None else int(memory_mhz) * MHZ,
        "power_w": _power_w(handle, library),
        "temperature_c": told(
            library.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU
        ),
        "reasons": told(library.nvmlDeviceGetCurrentClocksThrottleReasons, handle),
        "processes": None if running is None else len(running),
    }


def _power_w(handle: Any, library: Any) -> float | None:
    """Power at this moment; on cards without that field NVML's own, on newer ones of the last second."""
    fields = told(library.nvmlDeviceGetFieldValues, handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    if fields and fields[0].nvmlReturn == pynvml.NVML_SUCCESS:
        return float(fields[0].value.uiVal) / 1e3
    milliwatts = told(library.nvmlDeviceGetPowerUsage, handle)
    return None if milliwatts is None else float(milliwatts) / 1e3


def limits(handle: Any, library: Any = LIBRARY) -> dict[str, Any]:
    """The card's own bounds: its highest clock and its power limit."""
    mhz = told(library.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_SM)
    milliwatts = told(library.nvmlDeviceGetEnforcedPowerLimit, handle)
    return {
        "max_clock_hz": None if mhz is None else int(mhz) * MHZ,
        "power_limit_w": None if milliwatts is None else float(milliwatts) / 1e3,
    }


def power_limit_w(uuid: str | None, library: Any = LIBRARY) -> float | None:
    """The power that the driver allows this GPU, in watts."""
    with started(library) as ready:
        handle = card(uuid, library) if ready and uuid is not None else None
        limit: float | None = limits(handle, library)["power_limit_w"] if handle else None
    return limit


def settings(uuid: str, library: Any = LIBRARY) -> dict[str, str | None]:
    """How the card is set up, as far as it changes what is measured."""
    with started(library) as ready:
        handle = card(uuid, library) if ready else None
        if handle is None:
            return {}
        mig = told(library.nvmlDeviceGetMigMode, handle)
        persistence = told(library.nvmlDeviceGetPersistenceMode, handle)
        ecc = told(library.nvmlDeviceGetEccMode, handle)
    on = {0: "off", 1: "on", None: None}
    return {
        "mig": on[mig[0] if mig else None],
        "persistence_mode": on[persistence],
        "ecc": on[ecc[0] if ecc else None],
    }


def others(uuid: str | None, library: Any = LIBRARY) -> tuple[str, ...]:
    """Other processes that hold memory of this GPU, largest first."""
    with started(library) as ready:
        handle = card(uuid, library) if ready and uuid is not None else None
        if handle is None:
            return ()
        running = told(library.nvmlDeviceGetComputeRunningProcesses, handle) or []
    mine = os.getpid()
    held = [(p.usedGpuMemory or 0, p.pid) for p in running if p.pid != mine]
    return tuple(
        f"process {pid} holds {gib(size) if size else 'memory that the driver does not tell'}"
        for size, pid in sorted(held, reverse=True)
    )
