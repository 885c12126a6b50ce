"""What torch.compile has done in this process so far: how often, and for how long."""

import sys
from typing import Any

# Read only where somebody has loaded it: loading it takes over a second.
MODULE = "torch._dynamo.utils"


def count() -> int:
    """Frames of Python that were compiled, again or for the first time."""
    dynamo = _loaded()
    return 0 if dynamo is None else int(dynamo.counters["frames"]["total"])


def spent_ns() -> int | None:
    """The wall time of all compilations; None where nothing was compiled."""
    dynamo = _loaded()
    if dynamo is None or not count():
        return None
    spent = dynamo.calculate_time_spent()
    seconds = spent.get("total_wall_time", spent.get("entire_frame_compile"))
    return None if seconds is None else round(seconds * 1e9)


def _loaded() -> Any:
    return sys.modules.get(MODULE)
