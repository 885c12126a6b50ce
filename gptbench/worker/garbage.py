"""Python's collector of reference cycles, which no step's time should hold.

A step that leaves tensors in cycles needs it: without it their memory is never given back.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from torch import Tensor

Found = TypeVar("Found")


@contextmanager
def held() -> Iterator[None]:
    """Python collects no garbage in here: a pause in a step would be the collector's time."""
    collects = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
        gc.unfreeze()


def left_by(run: Callable[[], Found]) -> tuple[Found, bool]:
    """What a run returns, and whether it left tensors that only the collector gives back."""
    with held():
        found = run()
        before = _tensors()
        gc.collect()
        return found, _tensors() < before


def _tensors() -> int:
    """Tensors that Python knows of and that are not frozen."""
    # Not isinstance: it asks an object for its class, and some of them answer with side effects.
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())
