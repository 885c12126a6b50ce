"""The worker process: one task as JSON on stdin, its progress and its answer as lines on stdout.

    {"event": "progress", "doing": "warming up", "value": 0.0}
    {"event": "answer", "body": {...}}
    {"event": "failure", "kind": "out-of-memory" | "question" | "unavailable", "message": "..."}

Anything else that ends the process is a crash, which the runner reports with its last words. The
parent's death ends the worker too: an orphan would go on using the device.
"""

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from gptbench.errors import GptbenchError, QuestionError
from gptbench.record import CheckTask, DetectTask, MeasureTask, TraceTask, to_builtins
from gptbench.worker import oom

PR_SET_PDEATHSIG = 1  # prctl(2), Linux


def main() -> int:
    """Answer the one task on stdin."""
    _die_with_parent()
    # Libraries print to stdout as they like; the answer goes where they cannot reach.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.read())

    def say(event: str, **fields: Any) -> None:
        answers.write(json.dumps({"event": event, **fields}) + "\n")

    def progress(doing: str, value: float) -> None:
        say("progress", doing=doing, value=value)

    try:
        say("answer", body=to_builtins(answer(request["kind"], request["task"], progress)))
    except GptbenchError as error:
        kind = "question" if isinstance(error, QuestionError) else "unavailable"
        say("failure", kind=kind, message=str(error))
    except Exception as error:
        if not oom.is_out_of_memory(error):
            raise
        # The sentence alone: a traceback would hold on to the tensors it speaks of.
        say("failure", kind="out-of-memory", message=oom.sentence(error))
    return 0


# Kind of task -> its type, and the module and function that answer it. A module is loaded only
# when its task comes: fvcore costs a second that a probe of the batch search has no use for.
ANSWERS: dict[str, tuple[type[Any], str, str]] = {
    "detect": (DetectTask, "gptbench.worker.telemetry", "detect"),
    "measure": (MeasureTask, "gptbench.worker.measure", "measure"),
    "check": (CheckTask, "gptbench.worker.crosscheck", "check"),
    "trace": (TraceTask, "gptbench.worker.trace", "trace"),
}


def answer(kind: str, task: Any, progress: Callable[[str, float], None]) -> Any:
    """What the task's own module makes of it."""
    task_type, module, function = ANSWERS[kind]
    return getattr(importlib.import_module(module), function)(
        msgspec.convert(task, task_type), progress
    )


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
