"""What the harness adds to a step, and what a sampler beside it takes.

python benchmarks/overhead.py

A bare loop and the harness take turns at steps that wait for 100 ms on a clock, so that what lies
between two steps is all that can differ. The same with steps that do nothing tells it in
nanoseconds. A sampler costs what its process computes at each look.
"""

import itertools
import time

import torch
from turns import in_turns

from gptbench.worker import garbage, measure
from gptbench.worker.clock import HostClock
from gptbench.worker.sampler import Sampler

STEP_S = 0.1
STEPS = 10
EMPTY = 20_000
LOSS = torch.tensor(1.0)
BATCH = torch.zeros(1)

# What a sampler is started with on a machine of two cores, and what it is watched with here.
PERIOD_S = 1.0
HASTE_S = 0.01


def waiting(_batch: torch.Tensor) -> torch.Tensor:
    until = time.perf_counter() + STEP_S
    while time.perf_counter() < until:
        pass
    return LOSS


def empty(_batch: torch.Tensor) -> torch.Tensor:
    return LOSS


def bare(step, steps: int) -> None:
    for batch in itertools.repeat(BATCH, steps):
        step(batch)


def harness(step, steps: int) -> None:
    measure.run_steps(step, HostClock(), itertools.repeat(BATCH), steps)


def sampled(watched_s: float) -> tuple[int, int]:
    """Processor time of a sampler that was watched so long, and its looks."""
    one = Sampler(HASTE_S)
    time.sleep(watched_s)
    seen = one.stop()
    return seen["cpu_ns"], len(seen["samples"])


def main() -> None:
    with garbage.held():  # once before a window, and in no number
        of_the_harness()
    of_the_sampler()


def of_the_harness() -> None:
    ratio = in_turns(lambda: bare(waiting, STEPS), lambda: harness(waiting, STEPS), rounds=10)
    print(
        f"steps of {1000 * STEP_S:.0f} ms: the harness takes {100 * (ratio.median - 1):+.4f}%",
        end="",
    )
    print(f" [{100 * (ratio.low - 1):+.4f}%, {100 * (ratio.high - 1):+.4f}%], to be under 0.5%")
    ratio = in_turns(lambda: bare(empty, EMPTY), lambda: harness(empty, EMPTY), rounds=20)
    added_s = ratio.a_s * (ratio.median - 1) / EMPTY
    print(
        f"empty steps: {1e9 * added_s:.0f} ns each, {100 * added_s / STEP_S:.4f}% of one of 100 ms"
    )


def of_the_sampler() -> None:
    short_ns, few = sampled(2.0)
    long_ns, many = sampled(8.0)
    look_s = (long_ns - short_ns) / 1e9 / (many - few)
    print(f"a sampler's look: {1e6 * look_s:.0f} µs of one core, once in {PERIOD_S:.0f} s", end="")
    print(f" {100 * look_s / PERIOD_S:.3f}% of it, to be under 0.2%")


if __name__ == "__main__":
    main()
