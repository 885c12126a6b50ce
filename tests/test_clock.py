"""The clocks, on a device that queues work as CUDA does."""

import time

from fakes import FakeCuda
from gptbench.worker.clock import CudaClock, HostClock


def run_window(clock, cuda, durations_ms):
    clock.start(len(durations_ms))
    for duration in durations_ms:
        cuda.kernel(duration)
        clock.mark()
    return clock.stop()


def test_queued_kernels_take_the_time_they_run_and_not_the_time_to_queue_them():
    cuda = FakeCuda()
    window = run_window(CudaClock(cuda), cuda, [10.0, 20.0, 10.0])
    assert window.step_ns == (10_000_000, 20_000_000, 10_000_000)


def test_a_window_waits_for_the_device_once_before_and_once_after():
    cuda = FakeCuda()
    run_window(CudaClock(cuda), cuda, [1.0] * 50)
    assert cuda.synchronized == 2


def test_work_queued_before_the_window_is_not_in_its_first_step():
    cuda = FakeCuda()
    cuda.kernel(500.0)
    window = run_window(CudaClock(cuda), cuda, [10.0])
    assert window.step_ns == (10_000_000,)


def test_a_clock_can_be_started_again():
    cuda = FakeCuda()
    clock = CudaClock(cuda)
    run_window(clock, cuda, [5.0, 5.0])
    assert run_window(clock, cuda, [7.0]).step_ns == (7_000_000,)


def test_the_host_clock_tiles_its_window_with_steps(monkeypatch):
    ticks = iter([100, 107, 119, 120])
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    clock = HostClock()
    clock.start(3)
    for _ in range(3):
        clock.mark()
    window = clock.stop()
    assert window.step_ns == (7, 12, 1)
    assert window.window_ns == sum(window.step_ns)
