"""Stand-ins for what is not here: a CUDA device with a queue, a clock that obeys."""

import random


class FakeClock:
    """Nanoseconds that pass when they are told to, from no particular origin."""

    def __init__(self) -> None:
        self.now_ns = 987_654_321

    def __call__(self) -> int:
        return self.now_ns

    def passes(self, time_s: float) -> None:
        self.now_ns += round(time_s * 1e9)


class FakeCuda:
    """Behaves like torch.cuda: work is queued, events fire when the queue reaches them.

    Time is in milliseconds from a random origin, so that no test can depend on zero.
    """

    def __init__(self) -> None:
        self.device_ms = random.Random(0).random() * 1e6
        self.queue: list[object] = []
        self.synchronized = 0

    def kernel(self, duration_ms: float) -> None:
        self.queue.append(duration_ms)

    def synchronize(self) -> None:
        self.synchronized += 1
        for entry in self.queue:
            if isinstance(entry, FakeEvent):
                entry.fired_ms = self.device_ms
            else:
                self.device_ms += entry
        self.queue.clear()

    def Event(self, *, enable_timing: bool) -> "FakeEvent":  # noqa: N802 - torch's own name
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self._cuda = cuda
        self.fired_ms: float | None = None

    def record(self) -> None:
        self._cuda.queue.append(self)

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert self.fired_ms is not None
        assert end.fired_ms is not None, "the event has not fired: nobody waited for it"
        return end.fired_ms - self.fired_ms
