"""Two ways to time steps: a monotonic clock on the host, events on a CUDA stream.

A clock takes a mark before the first step and one after each; intervals between marks tile the
run. Nothing waits for the device between marks: one wait before the run, one after it. Marks are
kept as plain numbers in memory that was there before, so that the harness allocates nothing.
"""

import itertools
import time
from array import array
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True)
class Run:
    """A contiguous run of steps: the time of each and of the whole, in nanoseconds.

    `handed_ns` is when the host had given each step to the device, from the first mark; empty
    where the host is the device.
    """

    step_ns: tuple[int, ...]
    wall_ns: int
    handed_ns: tuple[int, ...] = ()


class Clock(Protocol):
    """Times the steps between its marks."""

    def start(self, steps: int) -> None:
        """Wait for the device to be idle, then take the first mark of a run of `steps`."""

    def mark(self) -> None:
        """One step has been given to the device."""

    def stop(self) -> Run:
        """Wait for the last step and read all marks."""


class HostClock:
    """The CPU's: a step is done when its call returns."""

    def __init__(self) -> None:
        self._marks = array("q")
        self._taken = 0

    def start(self, steps: int) -> None:
        self._marks = array("q", bytes(8 * (steps + 1)))
        self._taken = 0
        self.mark()

    def mark(self) -> None:
        self._marks[self._taken] = time.perf_counter_ns()
        self._taken += 1

    def stop(self) -> Run:
        marks = self._marks[: self._taken]
        steps = tuple(after - before for before, after in itertools.pairwise(marks))
        return Run(step_ns=steps, wall_ns=marks[-1] - marks[0])


class CudaClock:
    """The GPU's own: an event on the stream behind each step, read when all are done.

    `cuda` is `torch.cuda`, or something that behaves like it.
    """

    def __init__(self, cuda: Any = torch.cuda) -> None:
        self._cuda = cuda
        self._events: list[Any] = []
        self._handed = array("q")
        self._taken = 0

    def start(self, steps: int) -> None:
        # An event is made when it is first recorded: made inside of the run, it would be timed.
        for _ in range(steps + 1 - len(self._events)):
            event = self._cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        self._handed = array("q", bytes(8 * (steps + 1)))
        self._cuda.synchronize()
        self._handed[0] = time.perf_counter_ns()
        self._events[0].record()
        self._taken = 1

    def mark(self) -> None:
        self._events[self._taken].record()
        self._handed[self._taken] = time.perf_counter_ns()
        self._taken += 1

    def stop(self) -> Run:
        self._cuda.synchronize()
        ended_ns = time.perf_counter_ns()
        events, began_ns = self._events[: self._taken], self._handed[0]
        steps = tuple(
            round(before.elapsed_time(after) * 1e6) for before, after in itertools.pairwise(events)
        )
        return Run(
            step_ns=steps,
            wall_ns=ended_ns - began_ns,
            handed_ns=tuple(mark - began_ns for mark in self._handed[1 : self._taken]),
        )


def of(device: torch.device) -> Clock:
    """The clock of a kind of device."""
    return CudaClock() if device.type == "cuda" else HostClock()
