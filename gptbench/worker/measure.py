"""Warm up, run one window of steps with nothing but the step inside, say what it took."""

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice

import torch
from torch import Tensor

from gptbench.config import ModelConfig, Workload
from gptbench.errors import UnavailableError
from gptbench.record import Measured, Measurement, MeasureTask
from gptbench.worker import memory_limit, step, telemetry, text
from gptbench.worker.clock import Clock, CudaClock, HostClock

# What is being done, and the seconds it will take; 0 where nobody knows.
Progress = Callable[[str, float], None]


def measure(task: MeasureTask, progress: Progress) -> Measured:
    """One window of the task's workload. Raises whatever the step raises, out of memory too."""
    torch.manual_seed(task.seed)
    device = torch.device(task.device)
    if device.type == "cpu":
        load_libraries(task.workload, device)
    tokens = text.batches(task.model, task.workload, task.data, task.seed, device)
    if task.memory_limit_bytes is not None:
        memory_limit.limit(device, task.memory_limit_bytes)
    peak = memory_limit.PeakMemory(device)
    progress("building the model", 0.0)
    run = step.build(task.model, task.workload, device)
    clock: Clock = CudaClock() if device.type == "cuda" else HostClock()
    feed = cycle(tokens.unbind(0))

    progress("warming up", 0.0)
    if task.prime:
        run(tokens[0, :1])
    warmup_ns, first_loss = warm_up(task, run, clock, feed)
    steps = task.steps or steps_for(task, warmup_ns)
    progress(f"timing {steps} steps", statistics.median(warmup_ns[-3:]) / 1e9 * steps)
    losses: list[Tensor] = []
    _pause_collector()
    clock.start(steps)
    for batch in islice(feed, steps):
        losses = [run(batch)]
        clock.mark()
    window = clock.stop()
    _resume_collector()
    last_loss = finite(float(losses[-1]), task)
    measurement = Measurement(
        step_ns=window.step_ns,
        window_ns=window.window_ns,
        warmup_ns=warmup_ns,
        peak_memory_bytes=peak.read().memory_bytes,
        first_loss=first_loss,
        last_loss=last_loss,
        stop="steps asked for" if task.steps else "window filled",
    )
    return Measured(measurement=measurement, environment=telemetry.environment(device))


def finite(loss: float, task: MeasureTask) -> float:
    """The loss; UnavailableError where it is none, because such steps do other work."""
    if math.isfinite(loss):
        return loss
    work = task.workload
    instead = "float32" if work.dtype == "bfloat16" or not work.autocast else "bfloat16"
    raise UnavailableError(
        f"the loss became {loss} in {work.dtype}, so the steps did not train. "
        f"Type --dtype {instead}."
    )


def warm_up(
    task: MeasureTask, run: step.Step, clock: Clock, feed: "cycle[Tensor]"
) -> tuple[tuple[int, ...], float]:
    """Steps until both the number and the time asked for are reached; the first step's loss.

    The first step builds handles, optimizer state and compiled code, and costs several times a
    steady one. Each is timed alone, so that a later look can tell whether it was enough. Of slow
    steps two are enough: a processor that has been busy for seconds is as warm as it gets.
    """
    taken: list[int] = []
    first_loss = math.nan
    began = time.perf_counter()
    wanted = task.warmup_steps
    while len(taken) < wanted or time.perf_counter() - began < task.warmup_s:
        clock.start(1)
        loss = run(next(feed))
        clock.mark()
        taken.append(clock.stop().window_ns)
        if len(taken) == 1:
            first_loss = float(loss)
        if taken[-1] > SLOW_STEP_S * 1e9:
            wanted = min(wanted, SLOW_WARMUP_STEPS)
    return tuple(taken), first_loss


def steps_for(task: MeasureTask, warmup_ns: tuple[int, ...]) -> int:
    """Steps that fill the window, decided before it begins: looking inside would bias it.

    They are `min_steps` at the least, and of slow steps fewer, for the sake of who waits.
    """
    steady_s = statistics.median(warmup_ns[-3:]) / 1e9
    least = task.min_steps
    if steady_s > SLOW_STEP_S:
        least = min(least, SLOW_MIN_STEPS)
    return max(least, min(MAX_STEPS, math.ceil(task.window_s / steady_s)))


MAX_STEPS = 5000

# Ten steps of this length take half a minute. Six are the fewest whose fastest and slowest have
# the true median between them with 95% confidence: all but 2 of 2^6 ways to fall beside it.
SLOW_STEP_S = 3.0
SLOW_MIN_STEPS = 6
SLOW_WARMUP_STEPS = 2


def load_libraries(work: Workload, device: torch.device) -> None:
    """Run the workload once on next to nothing.

    It loads what torch loads on first use and starts the math library's threads: memory that
    belongs to the process and not to the model.
    """
    config = ModelConfig(name="smallest", n_layers=1, d_model=8, n_heads=1, n_ctx=8, vocab_size=8)
    smallest = replace(work, batch_size=2, seq_len=8, grad_accum=1, compile=False)
    run = step.build(config, smallest, device)
    for _ in range(2):
        run(torch.zeros(2, 9, dtype=torch.long, device=device))
    square = torch.ones(256, 256, device=device)
    (square @ square).sum().item()


def _pause_collector() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()


def _resume_collector() -> None:
    gc.enable()
    gc.unfreeze()
