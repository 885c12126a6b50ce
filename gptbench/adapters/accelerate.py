"""MFUMeter in a loop of Hugging Face Accelerate.

for batch in loader:
    with accelerator.accumulate(model):
        ...
    count(meter, accelerator, batch)
    if accelerator.sync_gradients and step % 10 == 0:
        log(meter, accelerator, step)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator

from gptbench.adapters.batches import tokens_of
from gptbench.adapters.devices import drain, require_for
from gptbench.adapters.scalars import scalars, warned
from gptbench.meter import MFUMeter


def count(
    meter: MFUMeter,
    accelerator: Accelerator,
    batch: Any,
    tokens: Callable[[Any], int] = tokens_of,
) -> None:
    """Count a batch of this process, and as many of each other one; a step ends with an update.

    Where processes share a batch, as tensor parallelism has it, `tokens` says each one's share.
    Raises QuestionError where the meter is for another number of devices.
    """
    require_for(meter, accelerator.num_processes)
    meter.count(tokens(batch) * accelerator.num_processes)
    if accelerator.sync_gradients:
        meter.step()


def log(meter: MFUMeter, accelerator: Accelerator, step: int) -> None:
    """Give the numbers to the trackers of the main process."""
    if accelerator.is_main_process and (found := scalars(warned(meter.compute()))):
        accelerator.log(found, step=step)


@contextmanager
def paused(meter: MFUMeter, accelerator: Accelerator) -> Iterator[None]:
    """A pause for an evaluation or a checkpoint, from when the device is done."""
    drain(accelerator.device)
    with meter.paused():
        yield
