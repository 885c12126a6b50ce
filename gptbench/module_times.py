"""What each module of a profiled model takes and holds, with everything beneath it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from gptbench import components, documents, findings
from gptbench.profiling import IDLE, Profile, Work
from gptbench.waterfall import Waterfall, published


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleSums:
    """A module and everything beneath it; `path` is '' for the model itself.

    Times are of the step without the profiler. What runs again in the backward pass is in
    `backward_ns`. `flops` are those of products that ran, `elementwise_flops` those of the rest.
    `moved_bytes` is None where none is known, and a lower bound where they are not complete.
    `kept_bytes` are what autograd keeps of the forward pass; None where nobody looked.
    """

    path: str
    class_name: str
    calls: int
    forward_ns: int
    backward_ns: int
    flops: int
    elementwise_flops: int = 0
    moved_bytes: int | None
    bytes_complete: bool = True
    parameter_bytes: int | None = None
    kept_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTime(ModuleSums):
    """A module's sums, and what they amount to."""

    @property
    def ns(self) -> int:
        return self.forward_ns + self.backward_ns

    @property
    def flops_per_s(self) -> float | None:
        """What it achieves; None where it has no product."""
        return self.flops / self.ns * 1e9 if self.flops and self.ns else None

    @property
    def intensity(self) -> float | None:
        """FLOPs of both kinds a byte; an upper bound where the bytes are not complete."""
        computed = self.flops + self.elementwise_flops
        return computed / self.moved_bytes if computed and self.moved_bytes else None


def by_module(profile: Profile, waterfall: Waterfall) -> tuple[ModuleTime, ...]:
    """Every module that ran, and those that only hold others, in the order of their calls."""
    seen = {module.path: module for module in profile.profiled.modules}
    paths = dict.fromkeys(path for inner in seen for path in _upwards(inner))
    sums = {path: _Sum() for path in paths}
    for work, ns in waterfall.rows:
        for path in _above(work.module, paths):
            sums[path].add(work, ns)
    memory = profile.profiled.memory
    for own in memory:
        for path in _above(own.path, paths):
            sums[path].parameter_bytes += own.parameter_bytes
            sums[path].kept_bytes += own.kept_bytes
    return tuple(
        ModuleTime(
            path=path,
            class_name=seen[path].class_name if path in seen else "",
            calls=seen[path].calls if path in seen else 0,
            forward_ns=sums[path].forward_ns,
            backward_ns=sums[path].backward_ns,
            flops=sums[path].flops,
            elementwise_flops=sums[path].elementwise_flops,
            moved_bytes=sums[path].moved_bytes,
            bytes_complete=sums[path].bytes_complete,
            parameter_bytes=sums[path].parameter_bytes if memory else None,
            kept_bytes=sums[path].kept_bytes if memory else None,
        )
        for path in sorted(paths, key=lambda path: path != "")
    )


@dataclass(slots=True)
class _Sum:
    """What is added up for a module."""

    forward_ns: int = 0
    backward_ns: int = 0
    flops: int = 0
    elementwise_flops: int = 0
    moved_bytes: int | None = None
    bytes_complete: bool = True
    parameter_bytes: int = 0
    kept_bytes: int = 0

    def add(self, work: Work, ns: int) -> None:
        if work.direction == "forward":
            self.forward_ns += ns
        else:
            self.backward_ns += ns
        self.flops += work.executed_flops
        self.elementwise_flops += work.elementwise_flops
        if work.moved_bytes is not None:
            self.moved_bytes = (self.moved_bytes or 0) + work.moved_bytes
        elif work.calls and work.kind not in IDLE:
            self.bytes_complete = False


def _above(module: str | None, among: Collection[str]) -> Iterator[str]:
    """The module and those around it; none of what lies outside of the model."""
    if module is not None:
        yield from (path for path in _upwards(module) if path in among)


def _upwards(path: str) -> Iterator[str]:
    """'' and every module on the way down to a path, which is the last."""
    yield ""
    parts = path.split(".") if path else []
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def document(profile: Profile, waterfall: Waterfall) -> dict[str, Any]:
    """The published JSON of a profile: facts, waterfall, products, roofline, modules, advice."""
    whole = published(profile, waterfall)
    whole["result"]["roofline"] = components.document(profile, waterfall)
    peak, step_ns = profile.device.peak_flops_per_s, waterfall.step_ns
    whole["result"]["modules"] = [
        {
            **documents.to_builtins(time),
            "share": time.ns / step_ns,
            "flops_per_s": time.flops_per_s,
            "intensity": time.intensity,
            "of_peak": time.flops_per_s / peak if time.flops_per_s and peak else None,
        }
        for time in by_module(profile, waterfall)
    ]
    whole["result"]["advice"] = findings.document(findings.ranked(profile, waterfall))
    return whole
