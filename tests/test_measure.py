"""How many steps are timed, and how many come before: with a clock that says what it is told."""

import itertools

import pytest
import torch

from gptbench import presets
from gptbench.config import Workload
from gptbench.record import MeasureTask
from gptbench.worker import measure
from gptbench.worker.clock import Window

S = 1_000_000_000


def task(**changes):
    settings = {
        "model": presets.load("gptfromscratch-rope"),
        "workload": Workload(batch_size=2, seq_len=32),
        "device": "cpu",
        "warmup_steps": 3,
        "warmup_s": 0.0,
        "steps": None,
        "min_steps": 10,
        "window_s": 12.0,
        "data": None,
        "memory_limit_bytes": None,
    }
    return MeasureTask(**{**settings, **changes})


class ObedientClock:
    """Every step took as long as it is told."""

    def __init__(self, step_s):
        self.step_ns = int(step_s * S)

    def start(self, steps):
        pass

    def mark(self):
        pass

    def stop(self):
        return Window(step_ns=(self.step_ns,), window_ns=self.step_ns)


@pytest.mark.parametrize(
    ("step_s", "steps"), [(0.01, 1200), (1.0, 12), (2.0, 10), (4.0, 6), (60.0, 6)]
)
def test_a_window_is_filled_with_ten_steps_at_the_least_and_six_slow_ones(step_s, steps):
    assert measure.steps_for(task(), (int(step_s * S),) * 3) == steps


def test_slow_steps_are_no_more_than_were_asked_for():
    assert measure.steps_for(task(min_steps=2, window_s=2.0), (9 * S,) * 3) == 2


@pytest.mark.parametrize(("step_s", "steps"), [(0.5, 3), (4.0, 2)])
def test_of_slow_steps_two_warm_up(step_s, steps):
    feed = itertools.cycle([torch.zeros(1, 2)])
    taken, _ = measure.warm_up(
        task(), lambda _batch: torch.tensor(1.0), ObedientClock(step_s), feed
    )
    assert len(taken) == steps


def test_a_first_small_step_leaves_the_window_as_it_is():
    plain, primed = (
        measure.measure(task(steps=2, prime=prime), lambda _doing, _s: None).measurement
        for prime in (False, True)
    )
    assert len(primed.warmup_ns) == len(plain.warmup_ns)
    assert primed.first_loss < plain.first_loss
