"""A process that looks at the device beside a run, on a clock of its own.

A thread would share the interpreter's lock with the steps; this shares nothing but the machine. It
sleeps between looks, keeps what it saw, and says it all when its stdin ends, which is also how it
ends with the worker that started it.

    python -m gptbench.worker.sampler PERIOD_S [UUID]
"""

import itertools
import json
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from gptbench import cores
from gptbench.worker import host, nvml

# How long, and how often, an energy counter is watched to learn how often it moves.
WATCHED_S = 1.0
WATCH_EVERY_S = 0.002

# A worker that has closed the sampler's stdin waits this long for what it saw.
GRACE_S = 10.0

Seen = dict[str, Any]


def main() -> int:
    """Look until stdin ends, then say what was seen."""
    period_s, uuid = float(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    with nvml.started() as ready:
        card = nvml.card(uuid) if ready and uuid else None
        bounds = nvml.limits(card) if card is not None else {}
        update_ns = None
        if card is not None:
            update_ns = counters_period_ns(lambda: nvml.energy_j(card))
        samples = watch(period_s, lambda: nvml.sampled(card) if card is not None else of_cpu())
    said = {
        "samples": samples,
        "update_ns": update_ns,
        "cpu_ns": time.process_time_ns(),
        **bounds,
    }
    json.dump(said, sys.stdout)
    return 0


def of_cpu() -> Seen:
    """What a sample of a CPU holds, but for its time."""
    return {"clock_hz": host.cpu_clock_hz(own=cores.affinity())}


def watch(period_s: float, look: Callable[[], Seen], stdin: int = 0) -> list[Seen]:
    """What was seen every period until `stdin` ended, each with its time on the system's clock."""
    seen: list[Seen] = []
    due = time.monotonic()
    while True:
        due = max(due + period_s, time.monotonic())
        # Taken before it is looked, as an upper bound of when that was.
        seen.append({"at_ns": time.monotonic_ns(), **look()})
        if select.select([stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            return seen


def counters_period_ns(
    read: Callable[[], float | None],
    clock_ns: Callable[[], int] = time.monotonic_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> int | None:
    """How often a counter moves: the median time between its movements; None if it did not twice."""
    began, last, moved = clock_ns(), read(), list[int]()
    while clock_ns() - began < WATCHED_S * 1e9:
        sleep(WATCH_EVERY_S)
        value = read()
        if value != last:
            moved.append(clock_ns())
            last = value
    gaps = [after - before for before, after in itertools.pairwise(moved)]
    return round(statistics.median(gaps)) if gaps else None


class Sampler:
    """The process, as its worker sees it."""

    def __init__(self, period_s: float, uuid: str | None = None) -> None:
        self.period_s, self._uuid = period_s, uuid
        words = [str(period_s)] if uuid is None else [str(period_s), uuid]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gptbench.worker.sampler", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def stop(self) -> Seen:
        """End it, and return what it saw: nothing, where it died of itself."""
        try:
            said, _ = self._process.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return {}
        if self._process.returncode != 0:
            return {}
        seen: Seen = json.loads(said)
        return seen

    def again(self) -> "Sampler":
        """Another one that looks at the same."""
        return Sampler(self.period_s, self._uuid)

    def kill(self) -> None:
        """End it, if it has not ended, without an answer."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


if __name__ == "__main__":
    sys.exit(main())
