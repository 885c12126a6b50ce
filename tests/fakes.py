"""Stand-ins for what is not here: a CUDA device with a queue, a card with a driver, a clock."""

import random
from types import SimpleNamespace

import pynvml


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
        self.made = 0

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
        self._exists = False
        self.fired_ms: float | None = None

    def record(self) -> None:
        # CUDA makes an event when it is recorded for the first time.
        self._cuda.made += not self._exists
        self._exists = True
        self._cuda.queue.append(self)

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert self.fired_ms is not None
        assert end.fired_ms is not None, "the event has not fired: nobody waited for it"
        return end.fired_ms - self.fired_ms


class FakeNvml:
    """Behaves like pynvml on a machine with some cards, by UUID; a fact that is None is not told."""

    def __init__(self, **cards) -> None:
        self.cards = {f"GPU-{uuid}": {"uuid": uuid, **facts} for uuid, facts in cards.items()}

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names, here and below
        if not self.cards:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        return self._told(self.cards.get(uuid))

    def nvmlDeviceGetClockInfo(self, card, which):  # noqa: N802
        return self._fact(card, "sm_mhz" if which == pynvml.NVML_CLOCK_SM else "memory_mhz")

    def nvmlDeviceGetMaxClockInfo(self, card, _which):  # noqa: N802
        return self._fact(card, "max_mhz")

    def nvmlDeviceGetPowerUsage(self, card):  # noqa: N802
        return self._fact(card, "milliwatts")

    def nvmlDeviceGetEnforcedPowerLimit(self, card):  # noqa: N802
        return self._fact(card, "limit_milliwatts")

    def nvmlDeviceGetFieldValues(self, card, _fields):  # noqa: N802
        instant = card.get("instant_milliwatts")
        status = pynvml.NVML_ERROR_NOT_SUPPORTED if instant is None else pynvml.NVML_SUCCESS
        value = SimpleNamespace(uiVal=instant or 0)
        return [SimpleNamespace(nvmlReturn=status, value=value)]

    def nvmlDeviceGetTemperature(self, card, _which):  # noqa: N802
        return self._fact(card, "celsius")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card):  # noqa: N802
        return self._fact(card, "reasons")

    def nvmlDeviceGetTotalEnergyConsumption(self, card):  # noqa: N802
        return self._fact(card, "millijoules")

    def nvmlDeviceGetComputeRunningProcesses(self, card):  # noqa: N802
        return self._fact(card, "processes")

    def _fact(self, card, name):
        value = card.get(name)
        return self._told(value() if callable(value) else value)

    def _told(self, value):
        if value is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value
