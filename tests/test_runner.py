"""Workers: real processes that answer, run out of memory, die, and are not left behind."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gptbench import cores, oom, presets, runner
from gptbench.config import Workload
from gptbench.errors import (
    OutOfMemoryError,
    QuestionError,
    UnavailableError,
    WorkerDiedError,
    WorkerHungError,
)
from gptbench.tasks import DetectTask, MeasureTask

ROPE = presets.load("gptfromscratch-rope")
MIB = 1 << 20


def task(**changes):
    settings = {
        "model": ROPE,
        "workload": Workload(batch_size=2, seq_len=32),
        "device": "cpu",
        "warmup_steps": 1,
        "warmup_s": 0.0,
        "steps": 3,
        "min_steps": 1,
        "window_s": 0.0,
        "data": None,
        "memory_limit_bytes": None,
    }
    return MeasureTask(**{**settings, **changes})


def workers():
    """Worker processes of this machine that descend from this test."""
    mine = psutil.Process().children(recursive=True)
    return [p for p in mine if "gptbench.worker" in " ".join(p.cmdline())]


@pytest.fixture(scope="module")
def ran():
    """A window of 60 steps in a worker of its own, and what was said meanwhile."""
    said = []
    answer = runner.measure(
        task(steps=60, warmup_steps=3, memory_limit_bytes=500 * MIB),
        lambda doing, _value: said.append(doing),
    )
    return answer.measurement, said


def test_a_window_has_the_steps_that_were_asked_for(ran):
    assert len(ran[0].step_ns) == 60


def test_the_steps_of_a_window_tile_it(ran):
    assert sum(ran[0].step_ns) == ran[0].window_ns


def test_warm_up_steps_are_kept_apart_from_the_window(ran):
    assert len(ran[0].warmup_ns) == 3


def test_training_in_the_worker_lowers_the_loss(ran):
    assert ran[0].last_loss < ran[0].first_loss


def test_progress_is_passed_on_in_order(ran):
    assert ran[1] == ["building the model", "warming up", "timing 60 steps"]


def test_a_limit_below_the_need_is_out_of_memory():
    big = task(workload=Workload(batch_size=4000, seq_len=256), memory_limit_bytes=100 * MIB)
    with pytest.raises(OutOfMemoryError, match="allocate"):
        runner.measure(big)


def test_a_wrong_question_found_in_the_worker_is_a_question_error(tmp_path):
    short = tmp_path / "short"
    short.write_text("brief")
    with pytest.raises(QuestionError, match="5 bytes"):
        runner.measure(task(data=str(short)))


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="there is a GPU here")
def test_a_cuda_device_that_is_not_there_is_unavailable():
    with pytest.raises(UnavailableError, match="no CUDA device"):
        runner.detect(DetectTask(device="cuda"))


def test_a_worker_that_dies_is_reported_with_its_last_words():
    with pytest.raises(WorkerDiedError, match=r"status 1 .* KeyError: 'no such kind'"):
        runner.ask("no such kind", DetectTask(), tuple, runner.quiet)


def test_no_worker_is_left_behind():
    runner.measure(task())
    assert workers() == []


PARENT = """
import signal
# A shell's background job ignores Ctrl-C, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)
import sys
from test_runner import task
from gptbench import runner
measure = runner.measure if sys.argv[1] == "fresh" else runner.Measurer().measure
measure(task(steps=100_000), lambda doing, _: print(doing, flush=True))
"""


@pytest.fixture(params=["fresh", "forked"])
def busy_parent(request):
    """A process whose worker, or a fork of that, is in the middle of its window."""
    folder = Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"},
    )
    for line in parent.stdout:
        if line.startswith("timing"):
            break
    yield parent
    parent.kill()
    parent.wait()
    parent.stdout.close()
    parent.stderr.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_a_worker_and_its_forks_die_with_their_parent(busy_parent, how):
    workers = psutil.Process(busy_parent.pid).children(recursive=True)
    assert len(workers) in (1, 2)
    busy_parent.send_signal(how)
    busy_parent.wait(30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_a_fork_dies_with_the_worker_that_forked_it(busy_parent):
    worker, *forks = psutil.Process(busy_parent.pid).children(recursive=True)
    worker.kill()
    _, alive = psutil.wait_procs(forks, timeout=30)
    assert alive == []


WATCHED = """
import os
from gptbench.worker import lifeline
lifeline.hold(os.getppid(), platform="darwin")
print("held", flush=True)
while True:
    pass
"""


def test_where_the_kernel_does_not_watch_a_worker_dies_when_its_stdin_ends():
    with subprocess.Popen(
        [sys.executable, "-c", WATCHED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
        start_new_session=True,
    ) as child:
        assert child.stdout.readline() == b"held\n"
        child.stdin.close()
        assert child.wait(30) == -signal.SIGKILL


def test_the_parent_uses_no_core_while_its_worker_measures(busy_parent):
    """Pitfall 40: on two cores a parent that polls takes half of the machine."""
    watched = psutil.Process(busy_parent.pid)
    before, began = watched.cpu_times(), time.perf_counter()
    time.sleep(1.0)
    after, elapsed = watched.cpu_times(), time.perf_counter() - began
    used = after.user + after.system - before.user - before.system
    assert used / elapsed < 0.05


def test_a_number_of_threads_that_was_set_is_kept():
    environment = runner.worker_environment({"OMP_NUM_THREADS": "7"})
    assert environment["OMP_NUM_THREADS"] == "7"


def test_threads_are_as_many_as_usable_cores_otherwise():
    environment = runner.worker_environment({})
    assert environment["OMP_NUM_THREADS"] == str(cores.worth_a_thread())


# -- many tasks, each in a process of its own ---------------------------------------------------

TOO_MUCH = Workload(batch_size=4000, seq_len=256)


@pytest.fixture
def measurer():
    with runner.Measurer() as found:
        yield found


@pytest.mark.slow
def test_a_fork_measures_what_a_fresh_process_measures(measurer):
    forked = measurer.measure(task()).measurement
    assert forked.first_loss == runner.measure(task()).measurement.first_loss


STATE = """
import os, sys
from pathlib import Path
from gptbench.worker import lifeline, measure, memory_limit, server, text
import torch

def state():
    lines = Path("/proc/self/status").read_text().splitlines()
    facts = [line for line in lines if line.startswith(("VmData", "Threads", "VmLck"))]
    print(*facts, len(sys.modules), torch.initial_seed(), torch.is_grad_enabled(), flush=True)

def spoil():
    from test_runner import TOO_MUCH, task
    torch.manual_seed(7)
    torch.set_grad_enabled(False)
    measure.measure(task(), lambda _doing, _s: None)
    measure.measure(task(workload=TOO_MUCH, memory_limit_bytes=100 << 20), lambda _d, _s: None)

server.load()
server.forked(int)
for work in (state, spoil, state):
    print(server.forked(work), flush=True)
"""


@pytest.mark.skipif(not runner.CAN_FORK, reason="workers do not fork here")
def test_nothing_of_a_trial_that_ran_out_of_memory_reaches_the_next_one():
    """Pitfall 48: a heap stays as large as its largest step, so that each trial has its own."""
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", STATE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"},
    )
    before, fine, spoiled, after, _ = done.stdout.splitlines()
    assert (fine, spoiled) == ("0", "1")
    assert after == before


def fits(measure, batch_size, prime):
    work = Workload(batch_size=batch_size, seq_len=256)
    try:
        measure(task(workload=work, steps=1, memory_limit_bytes=60 * MIB, prime=prime))
    except OutOfMemoryError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the kernel's")
def test_at_the_edge_every_trial_of_a_size_ends_alike(measurer):
    """Where 1 KiB decides: each before ran in a process that the one before had not touched."""
    edge = next(b for b in range(8, 200) if not fits(measurer.measure, b, prime=True))
    assert [fits(measurer.measure, b, prime=True) for b in 3 * (edge - 1, edge)] == 3 * [
        True,
        False,
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is the kernel's")
def test_the_edge_is_where_it_is_for_a_plain_fresh_process(measurer):
    """Within one sequence: at 60 MiB addresses chosen at random move the edge by a page."""
    edge = next(b for b in range(8, 200) if not fits(measurer.measure, b, prime=True))
    assert fits(runner.measure, edge - 2, prime=False)
    assert not fits(runner.measure, edge + 1, prime=False)


def test_a_trial_past_its_time_is_ended_with_all_it_started(measurer):
    measurer.measure(task())
    with pytest.raises(WorkerHungError, match="ended after 1 s"):
        measurer.measure(task(steps=100_000), allowed_s=1.0)
    assert workers() == []


def test_after_a_trial_that_hung_the_next_one_runs(measurer):
    with pytest.raises(WorkerHungError):
        measurer.measure(task(steps=100_000), allowed_s=1.0)
    assert len(measurer.measure(task()).measurement.step_ns) == 3


def kill_the_fork(doing, _seconds):
    if doing.startswith("timing"):
        _worker, fork = workers()
        fork.kill()


@pytest.mark.skipif(not runner.CAN_FORK, reason="workers do not fork here")
def test_a_fork_that_somebody_kills_is_a_crash_and_no_lack_of_memory(measurer):
    with pytest.raises(WorkerDiedError, match=r"SIGKILL [(]the kernel does not say"):
        measurer.measure(task(steps=100_000), kill_the_fork)
    assert len(measurer.measure(task()).measurement.step_ns) == 3


@pytest.mark.skipif(not runner.CAN_FORK, reason="workers do not fork here")
def test_a_fork_that_the_kernel_kills_for_its_memory_ran_out_of_memory(measurer, monkeypatch):
    kills = itertools.count(3)
    monkeypatch.setattr(oom, "kernel_kills", lambda: next(kills))
    with pytest.raises(OutOfMemoryError, match="the kernel killed it"):
        measurer.measure(task(steps=100_000), kill_the_fork)


@pytest.mark.slow
def test_where_workers_cannot_fork_each_trial_is_a_fresh_process(measurer, monkeypatch):
    monkeypatch.setattr(measurer, "_can_fork", False)
    assert len(measurer.measure(task()).measurement.step_ns) == 3
    assert workers() == []


@pytest.mark.skipif(not runner.CAN_FORK, reason="workers do not fork here")
def test_a_worker_that_does_not_load_in_time_is_ended_and_is_no_lack_of_memory(
    measurer, monkeypatch
):
    monkeypatch.setattr(runner, "LOADING_S", 0.01)
    with pytest.raises(UnavailableError, match="torch was not loaded") as error:
        measurer.measure(task())
    assert not isinstance(error.value, WorkerHungError)
    assert workers() == []


def test_no_worker_is_left_behind_by_one_that_forks(measurer):
    measurer.measure(task())
    measurer.close()
    assert workers() == []


def test_files_that_are_called_as_python_s_own_are_not_taken_for_them(tmp_path, monkeypatch):
    """Somebody's project has a profile.py, and a gptbench of its own."""
    for name in ("profile.py", "statistics.py", "gptbench/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    assert runner.detect(DetectTask(device="cpu")).kind == "cpu"
