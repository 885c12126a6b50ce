"""The parts of a profiled step under the roofs of its device: products by layer, the rest by class.

Williams, Waterman and Patterson 2009, "Roofline": what does f FLOPs and moves b bytes takes at least
max(f / peak, b / bandwidth). Both roofs are measured here: the best product by itself, and the
fastest pass over memory. FLOPs are those of products, and of element-wise work its own, which is in
no MFU.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gptbench import counts, documents
from gptbench.profiling import IDLE, Class, Profile, Work
from gptbench.roofline import Roofs, Traffic
from gptbench.waterfall import Waterfall, reach, update_bytes

# FLOPs of an AdamW update a parameter (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2):
# the decay 1, the moments 3 and 4, their correction and the root 3, the step 3.
ADAMW_FLOPS = 14

OUTSIDE = "outside of the model"

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentSums:
    """A part of the step, forward and backward together.

    `name` is a layer's for its products, of all layers that have it, and empty for a class, whose
    key is `kind`. `moved_bytes` is None where none is known, and a lower bound where they are not
    complete.
    """

    name: str
    kind: Class
    calls: int
    ns: int
    flops: int
    elementwise_flops: int
    moved_bytes: int | None
    bytes_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Component(ComponentSums):
    """A part's sums, and what they amount to under the roofs."""

    @property
    def all_flops(self) -> int:
        return self.flops + self.elementwise_flops

    @property
    def intensity(self) -> float | None:
        """FLOPs a byte; None where not all bytes are known or nothing is computed."""
        if not self.moved_bytes or not self.bytes_complete:
            return None
        return self.all_flops / self.moved_bytes or None

    @property
    def flops_per_s(self) -> float | None:
        """What it achieves; None where it computes nothing."""
        return self.all_flops / self.ns * 1e9 if self.all_flops and self.ns else None

    def attainable(self, limits: Roofs) -> float | None:
        """The rate of the roof that it is under, in FLOP/s."""
        return None if self.intensity is None else limits.attainable_flops_per_s(self.intensity)

    def of_roof(self, limits: Roofs) -> float | None:
        """How near it comes to its roof: the least time that it could take as a share of its own.

        What computes nothing is held to the bandwidth. Over 1 where a cache serves what the
        bytes count as memory's.
        """
        if not self.moved_bytes or not self.bytes_complete or not self.ns:
            return None
        return limits.least_time_s(self._traffic) / self.ns * 1e9

    def bound(self, limits: Roofs) -> str | None:
        """'compute' or 'memory'; None where not all bytes are known."""
        return limits.bound(self._traffic) if self.moved_bytes and self.bytes_complete else None

    @property
    def _traffic(self) -> Traffic:
        return Traffic(self.name, self.all_flops, self.moved_bytes or 0)


def roofs(profile: Profile) -> Roofs | None:
    """The limits of the device as they were measured; None where no copy or no product was."""
    bandwidth, best_flops_per_s = profile.bandwidth_bytes_per_s, reach(profile)
    if bandwidth is None or best_flops_per_s is None:
        return None
    device = profile.device
    source = device.achievable_source or "the best matrix product measured here"
    return Roofs(device.name, device.peak_dtype, best_flops_per_s, source, bandwidth)


def by_component(profile: Profile, waterfall: Waterfall) -> tuple[Component, ...]:
    """Everything that the device worked at, what takes longest first."""
    rows: dict[tuple[Class, str], list[tuple[Work, int]]] = defaultdict(list)
    names = layer_names(w.module for w, _ in waterfall.rows if w.kind == "gemm")
    for work, ns in waterfall.rows:
        if work.kind not in IDLE:
            name = names[work.module] if work.kind == "gemm" else ""
            rows[work.kind, name].append((work, ns))
    found = (_component(*key, own, profile) for key, own in rows.items())
    return tuple(sorted(found, key=lambda component: -component.ns))


def _component(
    kind: Class, name: str, rows: Iterable[tuple[Work, int]], profile: Profile
) -> Component:
    own = [(work, ns) for work, ns in rows if work.calls or ns]
    moved = [work.moved_bytes for work, _ in own if work.calls]
    known = [size for size in moved if size is not None]
    moved_bytes, complete = sum(known) or None, len(known) == len(moved)
    elementwise = sum(work.elementwise_flops for work, _ in own)
    if kind == "optimizer":
        # The profiler does not tell the sizes of lists, but an update is known.
        moved_bytes, complete = update_bytes(profile), True
        elementwise = ADAMW_FLOPS * counts.trained(profile)
    return Component(
        name=name,
        kind=kind,
        calls=sum(work.calls for work, _ in own),
        ns=sum(ns for _, ns in own),
        flops=sum(work.executed_flops for work, _ in own),
        elementwise_flops=elementwise,
        moved_bytes=moved_bytes,
        bytes_complete=complete,
    )


def layer_names(paths: Iterable[str | None]) -> dict[str | None, str]:
    """A name for each module, the same for those that differ in numbers alone.

    'blocks.3.attn.qkv' is 'attn.qkv', unless another stack of layers has one too: 'decoder.*.up'.
    """
    folded = {path: _NUMBER.sub("*", path) for path in paths if path is not None}
    whole = set(folded.values())
    short = {path: path.rpartition("*.")[2] or path for path in whole}
    shared = Counter(short.values())
    names: dict[str | None, str] = {None: OUTSIDE}
    for path, name in folded.items():
        names[path] = (short[name] if shared[short[name]] == 1 else name) or "model"
    return names


def document(profile: Profile, waterfall: Waterfall) -> dict[str, Any] | None:
    """The published JSON of the roofline, in base units; null where no roof was measured."""
    limits = roofs(profile)
    if limits is None:
        return None
    return {
        "peak_flops_per_s": limits.peak_flops_per_s,
        "bandwidth_bytes_per_s": limits.bandwidth_bytes_per_s,
        "ridge": limits.ridge,
        "components": [
            {
                **documents.to_builtins(component),
                "share": component.ns / waterfall.step_ns,
                "intensity": component.intensity,
                "flops_per_s": component.flops_per_s,
                "attainable_flops_per_s": component.attainable(limits),
                "of_roof": component.of_roof(limits),
                "bound": component.bound(limits),
            }
            for component in by_component(profile, waterfall)
        ],
    }
