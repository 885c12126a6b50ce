"""Calls that take turns, on a device that queues work as CUDA does."""

import pytest

from fakes import FakeCuda
from gptbench.calibration import Effort
from gptbench.worker import rounds
from gptbench.worker.clock import CudaClock

EFFORT = Effort(load_s=0.0, rounds=3, round_s=0.05, least_marks=4, most_s=0.1)


def kernel(cuda, duration_ms, seen=None):
    def call():
        cuda.kernel(duration_ms)
        if seen is not None:
            seen.append(duration_ms)

    return call


def timed(cuda, *calls, effort=EFFORT):
    return rounds.timed(calls, CudaClock(cuda), effort)


def test_a_call_takes_the_time_that_its_kernel_runs():
    cuda = FakeCuda()
    long, short = timed(cuda, kernel(cuda, 10.0), kernel(cuda, 2.0))
    assert (long.median_s, short.median_s) == (pytest.approx(0.01), pytest.approx(0.002))


def test_a_short_call_is_timed_in_groups_that_the_clock_can_tell():
    cuda = FakeCuda()
    plan = rounds.planned(kernel(cuda, 0.004), CudaClock(cuda), EFFORT)
    assert 50 <= plan.group <= 51  # 200 µs
    (found,) = timed(cuda, kernel(cuda, 0.004))
    assert found.median_s == pytest.approx(4e-6)


@pytest.mark.parametrize(
    ("duration_ms", "marks"),
    [
        (1.0, 50),  # as many as fill the round
        (20.0, 4),  # at least as many as asked for
        (40.0, 2),  # unless these take too long
        (500.0, 1),  # and always one
    ],
)
def test_a_round_has_as_many_readings_as_fill_it(duration_ms, marks):
    cuda = FakeCuda()
    plan = rounds.planned(kernel(cuda, duration_ms), CudaClock(cuda), EFFORT)
    assert (plan.group, plan.marks) == (1, marks)


def test_calls_take_turns():
    cuda, seen = FakeCuda(), []
    timed(cuda, kernel(cuda, 20.0, seen), kernel(cuda, 40.0, seen))
    turns = [20.0] * 4 + [40.0] * 2
    assert seen[-18:] == 3 * turns


def test_one_noisy_round_does_not_move_the_median():
    cuda, calls = FakeCuda(), []

    def disturbed():
        calls.append(None)
        cuda.kernel(90.0 if len(calls) in (8, 9, 10) else 10.0)

    (found,) = timed(cuda, disturbed)
    assert found.median_s == pytest.approx(0.01)
    assert found.high_s == pytest.approx(0.09)


def test_the_device_is_waited_for_twice_a_round_and_never_within():
    cuda = FakeCuda()
    plan = rounds.planned(kernel(cuda, 1.0), CudaClock(cuda), EFFORT)
    before = cuda.synchronized
    rounds.round_of(plan, CudaClock(cuda))
    assert cuda.synchronized - before == 2


def test_load_lasts_as_long_as_was_asked_by_the_device_s_own_clock():
    cuda, seen = FakeCuda(), []
    rounds.load(kernel(cuda, 10.0, seen), CudaClock(cuda), 3.0)
    assert 3.0 <= sum(seen) / 1000 < 4.0


def test_no_load_is_no_work():
    cuda, seen = FakeCuda(), []
    rounds.load(kernel(cuda, 10.0, seen), CudaClock(cuda), 0.0)
    assert seen == []
