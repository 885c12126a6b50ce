"""The devices of a training: how many there are, and when one is done."""

from typing import Any, Protocol

import torch

from gptbench.errors import QuestionError
from gptbench.meter import MFUMeter


class Queues(Protocol):
    """What `torch.accelerator` does."""

    def current_accelerator(self) -> Any: ...

    def synchronize(self, device: Any) -> None: ...


def drain(device: torch.device, queues: Queues = torch.accelerator) -> None:
    """Wait until a device has done what it was given, so that a pause begins after its steps."""
    kind = queues.current_accelerator()
    # A CPU has nothing queued, and asking would start CUDA for a training that runs on the CPU.
    if kind is not None and kind.type == device.type:
        queues.synchronize(device)


def require_for(meter: MFUMeter, n_processes: int) -> None:
    """Raise QuestionError where a meter cannot be of a training by so many processes.

    A process may have more than one device, but each has the same number.
    """
    if meter.world_size % n_processes:
        raise QuestionError(
            f"the meter is for world_size = {meter.world_size}, but {n_processes} processes train. "
            f"Give MFUMeter(..., world_size={n_processes})."
        )
