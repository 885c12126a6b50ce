"""What a training is judged by: the FLOPs of a token of its model, and the peak of its device."""

from dataclasses import dataclass
from typing import Protocol

from gptbench import config, conventions, device, models
from gptbench.config import Recompute, Workload
from gptbench.device import Device
from gptbench.errors import QuestionError, UnknownNameError

DTYPE_SHORT = {**config.DTYPE_SHORT, "fp64": "float64", "fp8": "float8", "fp4": "float4"}

STATED = "stated"


class Card(Protocol):
    """A device as `torch.cuda.get_device_properties` describes it."""

    @property
    def name(self) -> str: ...

    @property
    def multi_processor_count(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """FLOPs of a token in a training step, by the key of a convention or STATED.

    `hardware_flops_per_token` adds what the backward pass computes again.
    """

    convention: str
    flops_per_token: float
    hardware_flops_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The dense peak of one device for one dtype; None is unknown, and `source` says why.

    `boosts`: the card runs above the clock that its peak is stated for.
    """

    flops_per_s: float | None
    source: str
    boosts: bool = False


def stated_work(flops_per_token: float) -> Work:
    """FLOPs of a token that the caller has counted; none are taken to be computed again.

    Raises QuestionError for a number that is not positive and finite.
    """
    _require_positive("flops_per_token", flops_per_token)
    return Work(
        convention=STATED,
        flops_per_token=flops_per_token,
        hardware_flops_per_token=flops_per_token,
    )


def work_of(model: object, seq_len: int, recompute: Recompute, convention: str) -> Work:
    """FLOPs of a token of anything that `models.of` knows, in sequences of `seq_len` tokens.

    Raises QuestionError for a model, a length, a recomputation or a convention that cannot be.
    """
    described, counting = models.of(model), conventions.named(convention)
    if recompute not in ("none", "attention", "block"):
        raise QuestionError(
            f"recompute = {recompute!r} is not one of 'none', 'attention', 'block'."
        )
    work = Workload(batch_size=1, seq_len=seq_len, recompute=recompute)
    config.check_fits_context(described, work)
    per_token = conventions.counts(described, work)[convention]
    again = conventions.recomputed_share(described, work, counting)
    return Work(
        convention=convention,
        flops_per_token=per_token,
        hardware_flops_per_token=per_token * (1 + again),
    )


def stated_limit(flops_per_s: float) -> Limit:
    """A peak that the caller knows. Raises QuestionError where it is not positive and finite."""
    _require_positive("peak_flops_per_s", flops_per_s)
    return Limit(flops_per_s=flops_per_s, source="stated as peak_flops_per_s")


def limit_of(card: str | Card | None, dtype: object, rows: tuple[Device, ...]) -> Limit:
    """The peak of a device by its driver's name or its id in the table `rows`.

    A device or a peak that is not there is unknown, never another's. Raises QuestionError where
    no dtype is said, or one that nobody knows.
    """
    if card is None:
        return Limit(
            flops_per_s=None,
            source="no device is named: give device, as its driver calls it, or peak_flops_per_s",
        )
    name = card if isinstance(card, str) else getattr(card, "name", None)
    if not isinstance(name, str):
        raise QuestionError(
            f"device = {card!r} is no device's name. Give "
            "torch.cuda.get_device_properties(device), or its name."
        )
    known = _dtype(dtype)
    try:
        found = _rows(name, card, rows)
    except UnknownNameError:
        source = f"{name!r} is not in the table of 'gptbench gpus'; give peak_flops_per_s"
        return Limit(flops_per_s=None, source=source)
    return _shared(name, found, known)


def _rows(name: str, card: object, rows: tuple[Device, ...]) -> tuple[Device, ...]:
    """The rows that a name means; of a card with its number of multiprocessors, the one row."""
    units = getattr(card, "multi_processor_count", None)
    if units is None:
        return device.find(name, rows)
    one = device.match(name, units, rows)
    return () if one is None else (one,)


def _shared(name: str, found: tuple[Device, ...], dtype: str) -> Limit:
    peaks = {row.peaks[dtype].flops_per_s for row in found if dtype in row.peaks}
    if not found:
        source = f"no device of the table is {name!r} with as many multiprocessors"
    elif not peaks:
        source = f"no {dtype} peak of {name!r} is known"
    elif len(peaks) > 1 or any(dtype not in row.peaks for row in found):
        ids = ", ".join(repr(row.id) for row in found)
        source = f"{name!r} stands for devices of different {dtype} peaks: {ids}"
    else:
        ids = found[0].id if len(found) == 1 else f"all {len(found)} variants of {name}"
        return Limit(
            flops_per_s=peaks.pop(),
            source=f"{ids}, dense {dtype}: {found[0].peaks[dtype].source}",
            boosts=any(row.boosts for row in found),
        )
    return Limit(flops_per_s=None, source=source)


def _dtype(dtype: object) -> str:
    """'bfloat16' of 'bf16' or torch.bfloat16."""
    known = device.PEAK_COLUMNS.values()
    if dtype is None:
        raise QuestionError(
            "a peak is one of a dtype. Give the one that the matrix products multiply in, such as "
            "dtype='bfloat16'."
        )
    text = str(dtype).lower().removeprefix("torch.")
    name = DTYPE_SHORT.get(text, text)
    if name not in known:
        words = ", ".join((*known, *DTYPE_SHORT))
        raise QuestionError(f"unknown dtype {str(dtype)!r}. Give one of: {words}.")
    return name


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise QuestionError(f"{name} = {value!r} must be positive and finite.")
