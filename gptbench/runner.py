"""Starts workers, waits for them without using a core, turns what they say into values.

A worker is a process of its own: what runs out of memory there kills nobody else, and the threads
of the math library are set before torch loads. It is a process group of its own too, so that one
signal ends it with everything it started.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psutil

from gptbench.errors import (
    OutOfMemoryError,
    QuestionError,
    UnavailableError,
    WorkerDiedError,
)
from gptbench.record import (
    Check,
    CheckTask,
    Detected,
    DetectTask,
    Measured,
    MeasureTask,
    Traced,
    TraceTask,
    to_builtins,
)

# What is being done, and the seconds it will take; 0 where nobody knows.
Progress = Callable[[str, float], None]
Answer = TypeVar("Answer")

NO_SETTINGS: Mapping[str, str] = {}

# Under a memory limit every tensor of the C library's allocator gets pages of its own and gives
# them back. It costs a tenth of the speed; without it what a step needs depends on how the heap
# was fragmented, and the same batch fits in one run and not in the next.
EXACT_MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576"}

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def quiet(_doing: str, _value: float) -> None:
    """Progress that nobody watches."""


def detect(task: DetectTask, progress: Progress = quiet) -> Detected:
    """The device of this machine."""
    return ask("detect", task, Detected, progress)


def measure(task: MeasureTask, progress: Progress = quiet) -> Measured:
    """One window of steps, in a process of its own."""
    limited = task.device == "cpu" and task.memory_limit_bytes is not None
    return ask("measure", task, Measured, progress, EXACT_MALLOC if limited else {})


def check(task: CheckTask, progress: Progress = quiet) -> tuple[Check, ...]:
    """The ledger held to other tools' counts."""
    return ask("check", task, tuple[Check, ...], progress)


def trace(task: TraceTask, progress: Progress = quiet) -> Traced:
    """What every operator of someone's own module costs."""
    return ask("trace", task, Traced, progress)


def ask(
    kind: str,
    task: Any,
    answer: type[Answer],
    progress: Progress,
    settings: Mapping[str, str] = NO_SETTINGS,
) -> Answer:
    """Hand a task to a fresh worker, started with extra `settings`, and return its answer.

    Raises OutOfMemoryError, QuestionError or UnavailableError as the worker says, and
    WorkerDiedError with its last words where it says nothing.
    """
    request = json.dumps({"kind": kind, "task": to_builtins(task)})
    with tempfile.TemporaryFile() as words:
        worker = subprocess.Popen(
            [sys.executable, "-m", "gptbench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            env=worker_environment({**os.environ, **settings}),
            start_new_session=True,
        )
        try:
            body = _converse(worker, request, progress)
            worker.wait()
        finally:
            _end(worker)
        if body is None:
            words.seek(0)
            raise WorkerDiedError(_obituary(kind, worker.returncode, words.read()))
    return msgspec.convert(body, answer)


def _converse(worker: "subprocess.Popen[bytes]", request: str, progress: Progress) -> Any:
    """Give the request, pass progress on, return the answer's body; None where none came."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(request.encode())
        worker.stdin.close()
    except BrokenPipeError:
        return None  # it died before it listened: its last words say why
    for line in worker.stdout:
        message = json.loads(line)
        if message["event"] == "progress":
            progress(message["doing"], message["value"])
        elif message["event"] == "answer":
            return message["body"]
        else:
            raise FAILURES[message["kind"]](message["message"])
    return None


FAILURES = {
    "out-of-memory": OutOfMemoryError,
    "question": QuestionError,
    "unavailable": UnavailableError,
}


def _end(worker: "subprocess.Popen[bytes]") -> None:
    """Kill whatever is left of the worker's group and reap it."""
    if worker.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    if worker.stdout is not None:
        worker.stdout.close()


def _obituary(kind: str, status: int, words: bytes) -> str:
    how = f"with status {status}"
    if status < 0:
        name = signal.Signals(-status).name
        how = f"by {name}"
        if name == "SIGKILL":
            how += ", as the kernel does when memory runs out"
    last = [line for line in words.decode(errors="replace").splitlines() if line.strip()][-3:]
    said = " | ".join(line.strip() for line in last) or "nothing"
    return f"the worker for {kind!r} ended {how} before it answered. Its last words: {said}"


def worker_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: the parent's, with as many threads as there are cores to use.

    A number of threads that the person has set is kept.
    """
    environment = dict(parent)
    if not any(name in parent for name in THREAD_VARIABLES):
        threads = str(usable_cores())
        environment |= dict.fromkeys(THREAD_VARIABLES, threads)
    # A worker starts in whatever folder the person is in; the package comes from where it is here.
    package = str(Path(__file__).parent.parent)
    path = parent.get("PYTHONPATH")
    environment["PYTHONPATH"] = package if not path else os.pathsep.join((package, path))
    return environment


def usable_cores() -> int:
    """Physical cores that this process may use: of its affinity and its container's quota.

    The quota is rounded down: with one thread more than it allows, the kernel stops the whole
    group in every period, and steps take 1.5 to 45 times as long.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    physical = psutil.cpu_count(logical=False) or allowed or 1
    return max(1, min(allowed or 1, physical, cgroup_quota(Path("/sys/fs/cgroup"))))


def cgroup_quota(root: Path) -> int:
    """Whole CPUs of the container's quota (cgroup v2, then v1); a large number where none is set."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return sys.maxsize
    if quota == "max" or int(quota) <= 0:
        return sys.maxsize
    return max(1, int(quota) // int(period))
