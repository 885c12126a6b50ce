"""What a logger gets of a reading: numbers by name, and a word on what is missing."""

import warnings

from gptbench.meter import MeterReading


def scalars(reading: MeterReading) -> dict[str, float]:
    """Tokens/s of all devices, seconds of the median step, MFU and HFU; the unknown is left out."""
    step = reading.step_time_s
    found = {
        "tokens_per_s": reading.tokens_per_s,
        "step_time_s": None if step is None else step.median,
        "mfu": reading.mfu,
        "hfu": reading.hfu,
    }
    return {name: value for name, value in found.items() if value is not None}


def warned(reading: MeterReading) -> MeterReading:
    """The reading, after a warning where its MFU is impossible, or its peak unknown.

    A callback ends no training over an accounting; `meter.refuse_impossible` raises for those who
    want that.
    """
    if reading.status in ("impossible", "peak-unknown"):
        warnings.warn(f"gptbench: no MFU: {reading.reason}.", stacklevel=2)
    return reading
