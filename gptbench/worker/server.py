"""Answers each request in a process forked from this one, which has torch loaded and runs nothing.

A fork is a fresh process if its parent is: this one never runs a parallel region (whose threads
no fork survives), never starts a device's driver, never builds a model, and does not even read
a request: the child does. So nothing of one child can reach another, not even through a heap that
a longer request has fragmented; they differ from a process that was started afresh in nothing but
the seconds that it takes to load torch.
"""

import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gptbench.worker import lifeline, measure  # noqa: F401 - loaded for the forks

Say = Callable[..., None]


def serve(respond: Callable[[str], None], say: Say) -> None:
    """Fork a child for each line of stdin, which reads it and `respond`s; say how it ended."""
    load()
    say("ready", forks=forked(_check_device) == 0)
    requests = select.poll()
    requests.register(sys.stdin.fileno(), select.POLLIN)
    while requests.poll()[0][1] & select.POLLIN:
        say("ended", status=forked(lambda: respond(sys.stdin.readline())))


def load() -> None:
    """Load what a measurement loads, and that it does not load by being imported.

    Making an optimizer loads half of torch.
    """
    torch.optim.AdamW(nn.Linear(1, 1).parameters())


def _check_device() -> None:
    """Raise in a child that cannot use CUDA, because its parent has already."""
    if torch.cuda._is_in_bad_fork():
        raise RuntimeError("CUDA was started before the fork")


def forked(work: Callable[[], Any]) -> int:
    """Do some work in a child; its exit status, or minus the number of the signal that ended it."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            lifeline.hold(parent)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, no code of the parent may run here
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
