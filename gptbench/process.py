"""One worker process: started, asked, waited for without using a core, ended.

A worker is a process of its own: what runs out of memory there kills nobody else, and the threads
of the math library are set before torch loads. It is a process group of its own too, so that one
signal ends it with everything it started. Its stdin stays open as long as somebody wants its
answer: a worker whose stdin ends has lost its parent, and ends too.
"""

import contextlib
import json
import os
import select
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil

from gptbench import oom
from gptbench.documents import to_builtins
from gptbench.errors import (
    OutOfMemoryError,
    QuestionError,
    UnavailableError,
    WorkerDiedError,
    WorkerHungError,
)

# What is being done, and the seconds it will take; 0 where nobody knows.
Progress = Callable[[str, float], None]

# A worker that has answered gives its memory back by itself, and is ended if it does not.
GRACE_S = 30.0

FAILURES: Mapping[str, type[Exception]] = {
    "out-of-memory": OutOfMemoryError,
    "question": QuestionError,
    "unavailable": UnavailableError,
}


# Takes the body of a part of an answer, as it comes.
Part = Callable[[Any], None]


def quiet(_doing: str, _value: float) -> None:
    """Progress that nobody watches."""


def unheard(_body: Any) -> None:
    """A part of an answer that nobody waits for."""


def _finding_us(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Python finds this gptbench where it is not installed, as in a checkout."""
    ours = str(Path(__file__).parents[1])
    if ours in (*site.getsitepackages(), site.getusersitepackages()):
        return dict(environment)
    before = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": f"{before}{os.pathsep}{ours}" if before else ours}


class Worker:
    """One worker process: what it is asked, what it answers, and its end.

    `how` is 'answer' for one that answers a single task itself, 'serve' for one that forks a
    process for each of many, and 'hold' for one that answers them all itself and keeps what it
    built. `program` is what Python runs, and speaks as `gptbench.worker` does; -P, since a file of
    someone's folder that is called profile.py is not Python's own.
    """

    def __init__(
        self,
        how: Literal["answer", "serve", "hold"],
        environment: Mapping[str, str],
        program: Sequence[str] = ("-P", "-m", "gptbench.worker"),
    ) -> None:
        self._serves = how == "serve"
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._unread = b""
        self.ready = True
        self._process = subprocess.Popen(
            [sys.executable, *program, how, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=_finding_us(environment),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self.close()

    def wait_until_ready(self, allowed_s: float) -> bool:
        """Whether a worker that serves may fork what uses the device, once it has loaded all.

        Raises WorkerDiedError where it ends instead, and UnavailableError after `allowed_s` seconds:
        a slow disk says nothing about memory.
        """
        self.ready = False
        before = oom.kernel_kills()
        try:
            for message in self._messages(time.monotonic() + allowed_s):
                if message["event"] == "ready":
                    self.ready = True
                    return bool(message["forks"])
        except TimeoutError as error:
            raise UnavailableError(f"torch was not loaded after {allowed_s:.0f} s.") from error
        raise WorkerDiedError(f"the worker {self._death(before)}")

    def ask(
        self,
        kind: str,
        task: Any,
        progress: Progress = quiet,
        allowed_s: float | None = None,
        part: Part = unheard,
    ) -> Any:
        """The body of the answer to a task; `part` is given those of its parts as they come.

        Raises OutOfMemoryError, QuestionError or UnavailableError as the worker says; where it
        says nothing WorkerDiedError with its last words, or OutOfMemoryError if those or the
        kernel mean it; and WorkerHungError, having ended it, after `allowed_s` seconds.
        """
        self.ready = False
        self._words.seek(0, os.SEEK_END)
        said_before = self._words.tell()
        killed_before = oom.kernel_kills()
        self._send({"kind": kind, "task": to_builtins(task)})
        deadline = None if allowed_s is None else time.monotonic() + allowed_s
        try:
            outcome, status = self._converse(progress, part, deadline)
        except TimeoutError as error:
            raise WorkerHungError(f"ended after {allowed_s:.0f} s without an answer") from error
        if outcome is None:
            death = self._death(killed_before, said_before, status)
            memory = death.of_memory()
            if memory is not None:
                raise OutOfMemoryError(memory)
            raise WorkerDiedError(f"the worker for {kind!r} {death}")
        if outcome["event"] == "failure":
            raise FAILURES[outcome["kind"]](outcome["message"])
        return outcome["body"]

    def close(self) -> None:
        """End the worker and everything it started, and forget it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        # Not reaped before its group is ended, so that the group's number is still its own.
        if self.ready:
            self._await_exit(time.monotonic() + GRACE_S)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._words.close()

    def _send(self, request: Any) -> None:
        assert self._process.stdin is not None
        # One that died before it listened: its last words say why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _converse(
        self, progress: Progress, part: Part, deadline: float | None
    ) -> tuple[dict[str, Any] | None, int | None]:
        """What was answered, if anything was, and the status of the child that answered.

        Passes progress and parts on. Raises TimeoutError at the deadline.
        """
        outcome: dict[str, Any] | None = None
        for message in self._messages(deadline):
            event = message["event"]
            if event == "progress":
                progress(message["doing"], message["value"])
            elif event == "part":
                part(message["body"])
            elif event == "ended":
                self.ready = True
                return outcome, int(message["status"])
            else:
                outcome = message
                if not self._serves:
                    self.ready = True
                    break
        return outcome, None

    def _messages(self, deadline: float | None) -> Iterator[dict[str, Any]]:
        """What the worker says until it ends. Raises TimeoutError at the deadline."""
        assert self._process.stdout is not None
        source = self._process.stdout.fileno()
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                yield json.loads(line)
                continue
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([source], [], [], left)[0]:
                raise TimeoutError
            read = os.read(source, 1 << 16)
            if not read:
                return
            self._unread += read

    def _death(
        self, killed_before: int, said_before: int = 0, status: int | None = None
    ) -> oom.Death:
        """How the worker ended, or with `status` its child."""
        if status is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
            status = self._process.returncode
        self._words.seek(said_before)
        words = self._words.read().decode(errors="replace")
        killed = oom.kernel_kills() - killed_before
        return oom.Death(status=status if status is not None else 0, words=words, killed=killed)

    def _await_exit(self, deadline: float) -> None:
        """Sleep until the process has ended and waits to be reaped, or until the deadline."""
        while time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                if psutil.Process(self._process.pid).status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
                    continue
            return
