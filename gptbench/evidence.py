"""What a finding is, and what of a profile its prediction is made from.

A prediction scales what was seen in the step by what was timed by itself, both ways in turns; or
takes bytes at the measured bandwidth; or is a time that was seen and that nothing needs.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from gptbench import whatif
from gptbench.calibration import AttentionShape, Shape, Spread, Timed
from gptbench.profiling import Class, Profile, Trial, Work
from gptbench.waterfall import Waterfall

# How a gain was predicted: from timings by themselves, from bytes at the measured bandwidth, or as
# a time that was seen in the step.
Basis = Literal["timed", "bytes", "seen"]

# A module between whose operators the host takes so many times what it takes between those of the
# middle module does something else there; of fewer modules there is no middle.
PAUSE = 10
FEWEST_MODULES = 3

Value = float | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What could be better, what it would gain, and what to type or to change.

    `saving_ns` is of the step; of the time of as many tokens where the batch is another. `error_ns`
    is the standard error of what was timed. `unseen`: the cost is that of a queue
    which runs dry, and what was seen is a lower bound. `option` is empty where code has to change.
    """

    key: str
    saving_ns: int
    share: float
    basis: Basis
    error_ns: int = 0
    unseen: bool = False
    option: str = ""
    values: dict[str, Value]
    trial: Trial | None = None


@dataclass(frozen=True)
class Evidence:
    """A profile with its waterfall, and the questions that findings ask of it."""

    profile: Profile
    waterfall: Waterfall

    @property
    def step_ns(self) -> int:
        return self.waterfall.step_ns

    @property
    def work(self) -> tuple[Work, ...]:
        return self.profile.profiled.work

    def part_ns(self, *keys: str) -> int:
        """Time of parts of the waterfall."""
        return sum(part.ns for part in self.waterfall.parts if part.key in keys)

    def rows(self, *kinds: Class) -> list[tuple[Work, int]]:
        """Work of these classes with its time in the step."""
        return [(work, ns) for work, ns in self.waterfall.rows if work.kind in kinds]

    def products(self) -> list[tuple[Work, str, int]]:
        """Matrix products with the format that multiplied them and their time in the step."""
        workload = self.profile.workload
        return [
            (work, whatif.dtype(work, workload), ns)
            for work, ns in self.rows("gemm")
            if work.product is not None
        ]

    def alone(self, shape: Shape, dtype: str) -> Spread | None:
        """A product by itself, as it was timed in turns with what it might be."""
        return self._alone.get((shape, dtype))

    def attention(self, shape: AttentionShape) -> Spread | None:
        """Attention as one kernel, by itself."""
        times = (t for t in self.profile.otherwise.attentions if t.shape == shape)
        return next((time.time for time in times), None)

    @cached_property
    def _alone(self) -> dict[tuple[Shape, str], Spread]:
        return by_shape(self.profile.otherwise)

    @cached_property
    def pauses_ns(self) -> dict[str, float]:
        """Modules in which the host does something else, and how long.

        It is host time of the module less that of as many calls in the middle module, of modules
        that take PAUSE times as much a call. Of profiled steps the quickest counts, so that what
        disturbed one of them is no pause.
        """
        host: dict[str, float] = defaultdict(float)
        calls: dict[str, int] = defaultdict(int)
        for work, ns in self.waterfall.rows:
            if work.module is None or work.direction != "forward":
                continue
            if work.kind == "host":
                mean = statistics.fmean(work.ns)
                host[work.module] += ns * min(work.ns) / mean if mean else 0.0
            calls[work.module] += work.calls
        for module in self.profile.profiled.modules:
            calls[module.path] += module.calls
        each = {m: ns / max(1, calls[m]) for m, ns in host.items()}
        if len(each) < FEWEST_MODULES:
            return {}
        usual = statistics.median(each.values())
        return {m: (ns - usual) * max(1, calls[m]) for m, ns in each.items() if ns > PAUSE * usual}

    def at_bandwidth_ns(self, moved_bytes: float) -> float | None:
        """How long bytes take at the measured bandwidth; None where it was not measured."""
        rate = self.profile.bandwidth_bytes_per_s
        return moved_bytes / rate * 1e9 if rate else None

    def finding(  # noqa: PLR0913, the fields of a finding
        self,
        key: str,
        saving_ns: float,
        basis: Basis,
        *,
        error_ns: float = 0.0,
        unseen: bool = False,
        option: str = "",
        **values: Value,
    ) -> Finding:
        """A finding that saves so much of the step."""
        return Finding(
            key=key,
            saving_ns=round(saving_ns),
            share=saving_ns / self.step_ns,
            basis=basis,
            error_ns=round(error_ns),
            unseen=unseen,
            option=option,
            values=values,
        )


def by_shape(timed: Timed) -> dict[tuple[Shape, str], Spread]:
    """Times of products by themselves, by shape and number format."""
    return {(time.shape, time.dtype): time.time for time in timed.products}


@dataclass(frozen=True, slots=True)
class Saving:
    """Nanoseconds that are saved, and their standard error."""

    ns: float
    error_ns: float = 0.0

    @property
    def sure(self) -> bool:
        """Whether it is more than chance may have made of it: two standard errors."""
        return self.ns > 2 * self.error_ns


def scaled(ns: int, before: Spread, after: Spread, per: float = 1.0) -> Saving:
    """What `ns` in the step become less where a product goes from `before` to `after` / `per`.

    ns · (1 - after / (per · before)): what the step adds to a product is taken to scale with it.
    """
    ratio = after.median_s / (per * before.median_s)
    relative = math.hypot(error_s(before) / before.median_s, error_s(after) / after.median_s)
    return Saving(ns * (1 - ratio), ns * ratio * relative)


def total(savings: Iterable[Saving]) -> Saving:
    """The sum of savings whose errors are independent."""
    listed = list(savings)
    return Saving(sum(s.ns for s in listed), math.hypot(*(s.error_ns for s in listed)))


def error_s(times: Spread) -> float:
    """The standard error of a median, from the range of its readings.

    That of a normal sample is 1.25 σ / √n, and σ at most 0.6 of the range from three readings on
    (Tippett 1925): of many readings, whose percentiles are nearer than their ends, it is too large.
    """
    return 0.75 * (times.high_s - times.low_s) / math.sqrt(times.n)
