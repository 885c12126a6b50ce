"""What is read beside a window of steps: at its edges here, in between by a process of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from gptbench import cores
from gptbench.telemetry import Energy, Sample, Telemetry
from gptbench.worker import energy, host, nvml
from gptbench.worker.sampler import Sampler

# Until it is known how often a GPU's energy counter moves: the slowest that was met.
SLOWEST_UPDATE_NS = 100_000_000

# On a machine of two cores a sampler's every look takes one of them away from the steps.
FEW_CORES = 2
FEW_CORES_PERIOD_S = 1.0


@dataclass(slots=True)
class Watch:
    """Telemetry of one window, from `begin` to `end`; `look` is called in between, off the clock."""

    source: energy.Source | None = None
    no_energy: str = ""
    sampler: Sampler | None = None
    missing: dict[str, str] = field(default_factory=dict)
    clock_hz: Callable[[], int | None] = lambda: None
    readings: list[energy.Reading] = field(default_factory=list)
    began: host.Moment | None = None

    def begin(self) -> None:
        """The window begins, or begins anew."""
        self.readings = []
        self.began = host.now()
        self.look()

    def look(self) -> None:
        """Read the energy counter, which must not go round unseen."""
        if self.source is not None:
            joules = self.source.counter.read_j()
            self.readings.append(energy.Reading(time.monotonic_ns(), joules))

    def end(self) -> Telemetry:
        """The window has ended."""
        assert self.began is not None
        self.look()
        ended = host.now()
        seen = self.sampler.stop() if self.sampler is not None else {}
        return _told(self, seen, self.began, ended)

    def renew(self) -> None:
        """After an end, look again: what was seen until then is forgotten."""
        if self.sampler is not None:
            self.sampler = self.sampler.again()

    def close(self) -> None:
        """Leave no sampler behind."""
        if self.sampler is not None:
            self.sampler.kill()


@contextmanager
def watching(device: torch.device, period_s: float) -> Iterator[Watch]:
    """A watch on the device, and no sampler left behind."""
    if cores.allowed() <= FEW_CORES:
        period_s = max(period_s, FEW_CORES_PERIOD_S)
    with ExitStack() as stack:
        if device.type == "cuda":
            ready = stack.enter_context(nvml.started())
            uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
            watch = of_gpu(None if uuid is None or not ready else str(uuid), period_s)
        else:
            watch = of_cpu(period_s)
        stack.callback(watch.close)
        yield watch


def of_gpu(uuid: str | None, period_s: float, library: Any = nvml.LIBRARY) -> Watch:
    """A watch on the card of this UUID. NVML must have been started, or the UUID be None."""
    card = nvml.card(uuid, library) if uuid is not None else None
    if uuid is None or card is None:
        reason = "NVML does not know the device"
        return Watch(no_energy=reason, missing={"samples": reason})
    source = energy.Source(
        counter=energy.BoardCounter(lambda: nvml.energy_j(card, library)),
        name="NVML's energy counter",
        scope="GPU board",
        update_ns=SLOWEST_UPDATE_NS,
    )
    return Watch(
        source=source,
        sampler=Sampler(period_s, uuid),
        clock_hz=lambda: nvml.clock_hz(card, library),
    )


def of_cpu(period_s: float, root: Path = host.ROOT) -> Watch:
    """A watch on this machine's processor; a sampler only where there is something to sample."""
    counter, why = energy.rapl(root)
    source = None
    if counter is not None:
        source = energy.Source(
            counter, "RAPL", "CPU packages", energy.RAPL_UPDATE_NS, counter.longest_s
        )
    if host.cpu_clock_hz(root) is None:
        missing = {"samples": "the kernel does not tell the clock of this CPU"}
        return Watch(source=source, no_energy=why, missing=missing)
    return Watch(source=source, no_energy=why, sampler=Sampler(period_s))


def _told(watch: Watch, seen: dict[str, Any], began: host.Moment, ended: host.Moment) -> Telemetry:
    missing = {**watch.missing, **host.missing(ended)}
    if watch.sampler is not None and not seen:
        missing["samples"] = "the sampler ended before its time"
    samples = tuple(
        msgspec.convert({**sample, "at_ns": sample["at_ns"] - began.at_ns}, Sample)
        for sample in seen.get("samples", ())
        if began.at_ns <= sample["at_ns"] <= ended.at_ns
    )
    if seen and not samples:
        missing["samples"] = "no look fell into the window"
    return Telemetry(
        host=host.between(began, ended, torch.get_num_threads()),
        energy=_energy(watch, seen.get("update_ns"), ended.at_ns - began.at_ns),
        samples=samples,
        period_s=watch.sampler.period_s if watch.sampler is not None else None,
        max_clock_hz=seen.get("max_clock_hz"),
        power_limit_w=seen.get("power_limit_w"),
        sampler_cpu_ns=seen.get("cpu_ns"),
        missing=missing,
    )


def _energy(watch: Watch, update_ns: int | None, over_ns: int) -> Energy:
    source = watch.source
    if source is None:
        return energy.none(watch.no_energy, over_ns)
    if update_ns is not None:
        source = replace(source, update_ns=update_ns)
    return energy.used(source, watch.readings)
