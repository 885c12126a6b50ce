"""MFUMeter: tokens/s, MFU and HFU of a training loop that somebody has already written.

    meter = MFUMeter("gpt2-small", device="NVIDIA A100-SXM4-80GB", dtype="bfloat16", seq_len=1024)
    for batch in loader:
        ...
        meter.step(batch.numel())
    print(meter.compute().mfu)

A step's time is the host's, from one call of `step` to the next, and nothing waits for the device:
waiting would slow down what is measured. A GPU runs behind the host, by as much as its queue holds,
so one step's time may be too short or too long; but the queue is as full at the end of a window as
at its beginning, so tokens and time of the whole window belong together, to within the few steps
that a queue holds. Rates are therefore all tokens over all time, never means of rates. What the
device has queued when a pause begins is the exception: see `MFUMeter.pause`.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Literal, NamedTuple

from gptbench import device, stats, yardstick
from gptbench.config import Recompute
from gptbench.diagnosis import BOOST_ROOM
from gptbench.errors import ImpossibleMfuError, QuestionError
from gptbench.units import percent, si
from gptbench.yardstick import Card, Limit, Work

Status = Literal["ok", "warming-up", "peak-unknown", "impossible"]

# nanoGPT's train.py lets a training loop settle for as many steps before it estimates an MFU.
SKIP = 5
WINDOW = 100
# An interval that respects autocorrelation takes time with the square of the steps.
LONGEST_WINDOW = 10_000


class Step(NamedTuple):
    """A timed step: its own nanoseconds, its tokens, and the nanoseconds of pauses inside of it."""

    time_ns: int
    tokens: int
    paused_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReading:
    """The last steps of a training. Rates are per second, fractions from 0 to 1, None is unknown.

    `tokens_per_s` are of all `world_size` devices, `model_flops_per_s` and `peak_flops_per_s` of
    one. `step_time_s` is the median step on the host with its within-run interval, from the fastest
    to the slowest of fewer than 9, and of fewer than 6 there is none; where a loop waits for its
    device every few steps only, the median is the host's and not the device's, which
    `window_s / n_steps` is. `window_s` is without
    `paused_s`, the pauses between its steps.

    `status` is 'ok' where there is an MFU; otherwise `reason` says why there is none: no step was
    timed after the warm-up ('warming-up'), the peak is not known ('peak-unknown'), or the device
    would have done more than it can ('impossible').
    """

    n_steps: int
    tokens: int
    window_s: float
    paused_s: float
    tokens_per_s: float | None
    step_time_s: stats.Interval | None
    convention: str
    flops_per_token: float
    world_size: int
    model_flops_per_s: float | None
    peak_flops_per_s: float | None
    peak_source: str
    mfu: float | None
    hfu: float | None
    status: Status
    reason: str


class MFUMeter:
    """Times the steps of a training loop, and holds them against the peak of its devices.

    `model`: a preset's name, a config.json, a ModelConfig, or a configuration or model of
    transformers; or instead of one `flops_per_token`, of a whole training step, for a model of your
    own (`gptbench flops module:factory --input-shape 1x1024` counts it).
    `device`: its name as the driver says it or `gptbench gpus` does, or what
    `torch.cuda.get_device_properties` gives, which tells slices of a device from the whole one.
    `dtype`: what the matrix products multiply in; float32 that is rounded for it is 'tf32'.
    `peak_flops_per_s`: the dense peak of one device, in place of the table's.
    `seq_len`: tokens of a sequence, for the FLOPs of its attention.
    `recompute`, `convention`: as for `gptbench mfu`. `world_size`: devices that work together.

    A reading is of the last `window` steps. The first `skip` calls of `step` are warm-up; the first
    of all only starts the clock, as nobody knows when its step began, and while a GPU's queue still
    fills, steps seem shorter than they are. What is kept does not grow.

    Raises QuestionError for what cannot be.
    """

    def __init__(  # noqa: PLR0913, one argument a fact of the training
        self,
        model: object = None,
        *,
        device: str | Card | None = None,
        dtype: object = None,
        seq_len: int | None = None,
        flops_per_token: float | None = None,
        peak_flops_per_s: float | None = None,
        recompute: Recompute = "none",
        convention: str = "exact",
        world_size: int = 1,
        window: int = WINDOW,
        skip: int = SKIP,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        _require("world_size", world_size, 1)
        _require("window", window, 1, LONGEST_WINDOW)
        _require("skip", skip, 1)
        self.work = _work(model, seq_len, flops_per_token, recompute, convention)
        self.limit = _limit(device, dtype, peak_flops_per_s)
        self.world_size = world_size
        self.skip = skip
        self._clock = clock
        self._steps: deque[Step] = deque(maxlen=window)
        self._to_skip = skip
        self._began = self._paused_ns = self._pending = 0
        self._paused_at: int | None = None

    def step(self, tokens: int = 0) -> None:
        """End a step: one optimizer update, in which all devices together read `tokens` more.

        It counts all time since the call before it, waiting for data and writing logs included,
        but for pauses. Raises QuestionError where it can have read no tokens, or in a pause.
        """
        now = self._clock()
        tokens = self._pending + (tokens if type(tokens) is int else _whole(tokens))
        if tokens <= 0 or self._paused_at is not None:
            raise _misused(tokens)
        if self._to_skip:
            self._to_skip -= 1
        else:
            # A clock that has not ticked since says that it was less than its tick.
            own_ns = max(1, now - self._began - self._paused_ns)
            self._steps.append(Step(own_ns, tokens, self._paused_ns))
        self._began = now
        self._pending = self._paused_ns = 0

    def count(self, tokens: int) -> None:
        """Add tokens of a batch to the step that is under way, as gradients are added up."""
        self._pending += tokens if type(tokens) is int else _whole(tokens)

    def pause(self) -> None:
        """Stop the clock for what is no training: an evaluation, a checkpoint. Again is no more.

        Wait for the device first (`torch.cuda.synchronize()`): steps that it has not finished would
        run inside of the pause, and their time be lost, which makes the MFU too high.
        """
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Let the clock run again after a pause."""
        if self._paused_at is not None:
            self._paused_ns += self._clock() - self._paused_at
            self._paused_at = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A pause for the block; one inside of another ends with the outer one."""
        outermost = self._paused_at is None
        self.pause()
        try:
            yield
        finally:
            if outermost:
                self.resume()

    def reset(self) -> None:
        """Forget all steps: the warm-up begins anew."""
        self._steps.clear()
        self._to_skip = self.skip
        self._began = self._paused_ns = self._pending = 0
        self._paused_at = None

    def compute(self) -> MeterReading:
        """What the last steps amount to. It never raises, as a training is worth more than it."""
        return read(tuple(self._steps), self.work, self.limit, self.world_size, self._why_no_steps)

    @property
    def _why_no_steps(self) -> str:
        return f"no step is timed yet: the first {self.skip} are warm-up"


def read(
    steps: Sequence[Step], work: Work, limit: Limit, world_size: int, why_no_steps: str
) -> MeterReading:
    """The reading of some steps; of none, for the reason given."""
    time_s = sum(step.time_ns for step in steps) / 1e9
    tokens = sum(step.tokens for step in steps)
    tokens_per_s = tokens / time_s if steps else None
    rate = None if tokens_per_s is None else tokens_per_s * work.flops_per_token / world_size
    mfu = None if rate is None or limit.flops_per_s is None else rate / limit.flops_per_s
    hfu = None if mfu is None else mfu * (work.hardware_flops_per_token / work.flops_per_token)
    status, reason = _status(mfu, hfu, limit, why_no_steps)
    return MeterReading(
        n_steps=len(steps),
        tokens=tokens,
        window_s=time_s,
        paused_s=sum(step.paused_ns for step in steps) / 1e9,
        tokens_per_s=tokens_per_s,
        step_time_s=stats.median_interval([s.time_ns / 1e9 for s in steps]) if steps else None,
        convention=work.convention,
        flops_per_token=work.flops_per_token,
        world_size=world_size,
        model_flops_per_s=rate,
        peak_flops_per_s=limit.flops_per_s,
        peak_source=limit.source,
        mfu=mfu if status == "ok" else None,
        hfu=hfu if status == "ok" else None,
        status=status,
        reason=reason,
    )


def refuse_impossible(reading: MeterReading) -> None:
    """Raise ImpossibleMfuError where the devices would have done more than they can."""
    if reading.status == "impossible":
        raise ImpossibleMfuError(f"{reading.reason}.")


def _status(
    mfu: float | None, hfu: float | None, limit: Limit, why_no_steps: str
) -> tuple[Status, str]:
    if limit.flops_per_s is None:
        return "peak-unknown", limit.source
    if mfu is None or hfu is None:
        return "warming-up", why_no_steps
    if hfu <= (BOOST_ROOM if limit.boosts else 1):
        return "ok", ""
    name = "MFU" if hfu == mfu else "HFU"
    return "impossible", (
        f"an {name} of {percent(hfu)} is impossible against a peak of "
        f"{si(limit.flops_per_s, 'FLOP/s')} ({limit.source.rstrip('.')}). Likely: tokens of other "
        "devices than these are counted, world_size or dtype is wrong, or a pause began before the "
        "device was done"
    )


def _work(
    model: object,
    seq_len: int | None,
    flops_per_token: float | None,
    recompute: Recompute,
    convention: str,
) -> Work:
    if (model is None) == (flops_per_token is None):
        raise QuestionError("give a model, or flops_per_token: exactly one of the two.")
    if flops_per_token is not None:
        if recompute != "none" or convention != "exact":
            raise QuestionError(
                "recompute and convention need a model: flops_per_token is a count."
            )
        return yardstick.stated_work(flops_per_token)
    if seq_len is None:
        raise QuestionError("a model needs seq_len, the tokens of a sequence, for its attention.")
    return yardstick.work_of(model, seq_len, recompute, convention)


def _limit(card: str | Card | None, dtype: object, peak_flops_per_s: float | None) -> Limit:
    if peak_flops_per_s is not None:
        return yardstick.stated_limit(peak_flops_per_s)
    return yardstick.limit_of(card, dtype, device.table())


def _whole(tokens: object) -> int:
    """Any whole number, such as numpy's; but no tensor, whose value the device may not know yet."""
    if isinstance(tokens, Integral):
        return int(tokens)
    raise QuestionError(
        f"tokens is a {type(tokens).__name__} and no whole number. A tensor's shape gives one "
        "without waiting for the device: batch.numel()."
    )


def _misused(tokens: int) -> QuestionError:
    if tokens <= 0:
        return QuestionError(f"a step of {tokens} tokens is none. Give step() the tokens it read.")
    return QuestionError("step() was called in a pause. Call resume() before the next step.")


def _require(name: str, value: int, least: int, most: int | None = None) -> None:
    if type(value) is not int or value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"between {least} and {most:,}"
        raise QuestionError(f"{name} = {value!r} must be a whole number, {limits}.")
