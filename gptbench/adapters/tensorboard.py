"""MFUMeter beside the curves of TensorBoard.

writer = SummaryWriter()
tensorboard.log(writer, meter.compute(), step)
"""

from typing import Any, Protocol

from gptbench.adapters.scalars import scalars
from gptbench.meter import MeterReading


class Writer(Protocol):
    """`torch.utils.tensorboard.SummaryWriter`, or what else takes scalars."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> Any: ...


def log(writer: Writer, reading: MeterReading, step: int, prefix: str = "train/") -> None:
    """Write the numbers of a reading; what is unknown leaves a gap in its curve."""
    for name, value in scalars(reading).items():
        writer.add_scalar(f"{prefix}{name}", value, step)
