"""Which cores this process may run on, and how many of them are worth a thread."""

import os

import psutil

from gptbench import cgroup


def affinity() -> frozenset[int] | None:
    """The numbers of the logical cores that this process may run on; None where nobody tells."""
    if not hasattr(os, "sched_getaffinity"):  # macOS
        return None
    return frozenset(os.sched_getaffinity(0))


def allowed() -> int:
    """Logical cores that this process may run on."""
    return len(affinity() or ()) or os.cpu_count() or 1


def worth_a_thread() -> int:
    """Physical cores that this process may use: of its affinity and its container's quota.

    The quota is rounded down: with one thread more than it allows, the kernel stops the whole
    group in every period, and steps take 1.5 to 45 times as long.
    """
    physical = psutil.cpu_count(logical=False) or allowed()
    return max(1, min(allowed(), physical, cgroup.whole_cpus() or physical))
