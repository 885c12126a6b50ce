"""The published form of a profile: what profile.json holds, as a JSON Schema, and a document held to it.

A profile's facts are `profiling`'s. What they amount to is described here; `module_times.document`
writes it. Later versions add keys and rename none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptbench import profiling, schema
from gptbench.calibration import Shape
from gptbench.components import ComponentSums
from gptbench.evidence import Basis
from gptbench.module_times import ModuleSums
from gptbench.profiling import PROFILE_SCHEMA_VERSION, Profile, Trial
from gptbench.schema import CaveatResult, FlopsResult, Share
from gptbench.upgrades import Document
from gptbench.waterfall import Part


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult(Part):
    """A part of the step, its share of it, and that in percent as printed: those sum to 100.0."""

    share: float
    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductResult:
    """A shape of matrix products, in the step and, where it was timed, by itself."""

    shape: Shape
    dtype: str | None = None
    directions: tuple[str, ...]
    calls: int
    ns: int
    alone_ns: int | None
    flops: int
    flops_per_s: float | None
    alone_flops_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleResult(ModuleSums):
    """A module with everything beneath it; `path` is '' for the model itself.

    `kept_bytes` are what its forward pass keeps for the backward one. `intensity` is of FLOPs of
    both kinds a byte, an upper bound where not `bytes_complete`.
    """

    share: float
    flops_per_s: float | None
    intensity: float | None = None
    of_peak: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentResult(ComponentSums):
    """A component under the measured roofs; `bound` is the roof that is nearer, `of_roof` how near."""

    share: float
    intensity: float | None
    flops_per_s: float | None
    attainable_flops_per_s: float | None
    of_roof: float | None
    bound: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineResult:
    """The roofs that were measured, where they meet (`ridge`, FLOPs a byte), and what is under them."""

    peak_flops_per_s: float
    bandwidth_bytes_per_s: float
    ridge: float
    components: tuple[ComponentResult, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceResult:
    """A finding: what it would save of the step, how that was predicted, and a trial if there was one.

    `unseen`: the cost is a GPU's, and what this device shows of it a lower bound.
    """

    rank: int
    key: str
    saving_s: float
    share: float
    error_s: float
    basis: Basis
    unseen: bool
    option: str
    values: dict[str, float | int | str]
    trial: Trial | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """What the facts amount to, in base units; null where unknown.

    `waterfall` divides `step_time_s`, the median step without the profiler, without remainder; its
    95% interval within the run is from `step_time_low_s` to `step_time_high_s`.
    `profiler_overhead` is how much longer a step takes with it, and `unexplained` the share of the
    step that nobody answers for.
    """

    step_time_s: float
    profiled_step_time_s: float
    step_time_low_s: float | None = None
    step_time_high_s: float | None = None
    profiler_overhead: float
    mfu: Share | None
    unexplained: float
    bandwidth_bytes_per_s: float | None
    waterfall: tuple[PartResult, ...]
    products: tuple[ProductResult, ...]
    caveats: tuple[CaveatResult, ...]
    modules: tuple[ModuleResult, ...]
    advice: tuple[AdviceResult, ...] = ()
    roofline: RooflineResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedProfile(Profile):
    """A profile of gptbench: its facts, and beside them what they amount to."""

    flops: FlopsResult
    result: ProfileResult


def published() -> dict[str, Any]:
    """The JSON Schema of profile.json, in the version that this gptbench writes."""
    return schema.described(PublishedProfile, "A profile of gptbench", PROFILE_SCHEMA_VERSION)


def check(document: Document, path: Path) -> PublishedProfile:
    """A profile.json that has all of its keys, each of its kind.

    Raises QuestionError that names the file, the key and what is wrong with it.
    """
    return profiling.of(document, path, PublishedProfile)
