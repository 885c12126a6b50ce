"""Two ways to time steps: a monotonic clock on the host, events on a CUDA stream.

A clock takes a mark before the first step and one after each; intervals between marks tile the
window. Nothing waits for the device between marks: one wait before the window, one after it.
"""

import itertools
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True)
class Window:
    """A contiguous run of steps: the time of each and of the whole, in nanoseconds."""

    step_ns: tuple[int, ...]
    window_ns: int


class Clock(Protocol):
    """Times the steps between its marks."""

    def start(self, steps: int) -> None:
        """Wait for the device to be idle, then take the first mark of a window of `steps`."""

    def mark(self) -> None:
        """One step has been given to the device."""

    def stop(self) -> Window:
        """Wait for the last step and read all marks."""


class HostClock:
    """The CPU's: a step is done when its call returns."""

    def __init__(self) -> None:
        self._marks: list[int] = []
        self._taken = 0

    def start(self, steps: int) -> None:
        self._marks = [0] * (steps + 1)
        self._taken = 0
        self.mark()

    def mark(self) -> None:
        self._marks[self._taken] = time.perf_counter_ns()
        self._taken += 1

    def stop(self) -> Window:
        marks = self._marks[: self._taken]
        steps = tuple(after - before for before, after in itertools.pairwise(marks))
        return Window(step_ns=steps, window_ns=marks[-1] - marks[0])


class CudaClock:
    """The GPU's own: an event on the stream behind each step, read when all are done.

    `cuda` is `torch.cuda`, or something that behaves like it.
    """

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self._events: list[Any] = []
        self._taken = 0
        self._began_ns = 0

    def start(self, steps: int) -> None:
        # Events are made beforehand: making one inside the window would be timed.
        self._events = [self._cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        self._taken = 0
        self._cuda.synchronize()
        self._began_ns = time.perf_counter_ns()
        self.mark()

    def mark(self) -> None:
        self._events[self._taken].record()
        self._taken += 1

    def stop(self) -> Window:
        self._cuda.synchronize()
        ended_ns = time.perf_counter_ns()
        events = self._events[: self._taken]
        steps = tuple(
            round(before.elapsed_time(after) * 1e6) for before, after in itertools.pairwise(events)
        )
        return Window(step_ns=steps, window_ns=ended_ns - self._began_ns)
