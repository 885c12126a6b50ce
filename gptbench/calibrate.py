"""The job of finding out what a device can really do, and remembering it.

What is known and not too old is taken from the cache; the rest is measured by one worker.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from gptbench import cache, calibration, device, models, runner
from gptbench.cache import Machine, Part
from gptbench.calibration import (
    EFFORT,
    LEAST_ARRAY_BYTES,
    SIDES,
    CalibrateTask,
    Product,
    ProductTime,
    Shape,
    Spread,
    Timed,
    Wanted,
    square,
)
from gptbench.config import (
    Dtype,
    ModelConfig,
    Workload,
    check_fits_context,
    parse_dtype,
)
from gptbench.device import Device
from gptbench.errors import QuestionError, UnavailableError
from gptbench.process import Progress
from gptbench.record import Detected, DetectTask
from gptbench.roofline import Roofs

# Sequences in a batch of the model's products where nobody says: a GPU's worth, a CPU's.
BATCH = {"cuda": 8, "cpu": 1}

# What may be allocated of the memory that is free.
ROOM_SHARE = 0.8

# A peak that is only needed beside a run: the sides that reach it, and the time of a few seconds.
BRIEF_SIDES = (4096, 8192)
BRIEF = replace(EFFORT["cuda"], load_s=2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person typed; None where the choice is left to gptbench."""

    model: str | None = None
    batch_size: int | None = None
    seq_len: int | None = None
    dtype: str | None = None
    device: Literal["auto", "cuda", "cpu"] = "auto"
    devices: Path | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a device can do, as far as it was asked for.

    `parts` are of a dtype each, `memory` of copies and launches. `row` is the device in the peak
    table. `products` are those of `model` in `work`, whose dtype is theirs. `notes` are sentences.
    """

    detected: Detected
    row: Device | None
    parts: tuple[Part, ...]
    memory: Part
    model: ModelConfig | None
    work: Workload | None
    products: tuple[Product, ...]
    now: datetime
    notes: tuple[str, ...]

    def squares(self, dtype: str) -> tuple[ProductTime, ...]:
        """The square products in a dtype, from the smallest."""
        ladder = _ladder(self.detected)
        return tuple(time for time in self.times(dtype) if time.shape in ladder)

    def times(self, dtype: str) -> tuple[ProductTime, ...]:
        """The times of all that was timed in a dtype and asked for."""
        asked = {*_ladder(self.detected), *_shapes(self.products)}
        part = next(part for part in self.parts if part.dtype == dtype)
        return tuple(time for time in part.timed.products if time.shape in asked)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Those in which anything was timed."""
        return tuple(part.dtype for part in self.parts if part.dtype and part.timed.products)

    @property
    def bandwidth_bytes_per_s(self) -> float | None:
        """The fastest way over memory."""
        return max((t.bytes_per_s for t in self.memory.timed.transfers), default=None)

    def best(self, dtype: str) -> ProductTime:
        """The fastest product in a dtype: its rate is what is achievable."""
        return calibration.best(self.times(dtype))

    def roofs(self, dtype: str) -> Roofs | None:
        """The limits of this device as they were measured; None where no copy was."""
        bandwidth = self.bandwidth_bytes_per_s
        if bandwidth is None:
            return None
        best = self.best(dtype)
        return Roofs(
            self.detected.name, dtype, best.flops_per_s, f"measured: {best.shape}", bandwidth
        )


def run(question: Question, progress: Progress) -> Calibration:
    """Answer the question. Raises QuestionError and UnavailableError as DESIGN's exit codes say."""
    model = models.load(question.model) if question.model else None
    dtype = parse_dtype(question.dtype) if question.dtype else None
    _check(question, model)
    table = device.table(question.devices)
    detected = runner.detect(DetectTask(device=question.device), progress)
    work: Workload | None = None
    products: tuple[Product, ...] = ()
    if model is not None:
        work = _workload(question, model, detected.kind, dtype or _model_dtype(detected))
        products = calibration.of_model(model, work)
    asked = (dtype,) if dtype else dtypes(detected)
    shapes: dict[str, tuple[Shape, ...]] = {work.dtype: _shapes(products)} if work else {}
    wanted = tuple(_wanted(detected, name, shapes.get(name, ())) for name in asked)
    parts, notes = _known_or_measured(detected, wanted, question.fresh, progress)
    return Calibration(
        detected=detected,
        row=device.match(detected.name, detected.units, table) if detected.kind == "cuda" else None,
        parts=parts[:-1],
        memory=parts[-1],
        model=model,
        work=work,
        products=products,
        now=cache.now(),
        notes=notes,
    )


def _check(question: Question, model: ModelConfig | None) -> None:
    """Raise QuestionError for what can be refused without looking at the machine."""
    if model is not None:
        check_fits_context(model, _workload(question, model, "cpu", "float32"))
        return
    for option, value in (("--batch-size", question.batch_size), ("--seq-len", question.seq_len)):
        if value is not None:
            raise QuestionError(f"{option} {value} is for a model's products. Type MODEL with it.")


def dtypes(detected: Detected) -> tuple[str, ...]:
    """The number formats that a device is asked to multiply in: not what a GPU only emulates."""
    on_cpu = detected.kind == "cpu"
    able = {
        "float32": True,
        "tf32": detected.has_tf32,
        "bfloat16": on_cpu or detected.has_bfloat16,
        "float16": on_cpu or detected.has_float16,
    }
    return tuple(name for name, can in able.items() if can)


@dataclass(frozen=True, slots=True)
class Achievable:
    """The best rate of matrix products, which of them and when; or None, and why."""

    flops_per_s: float | None
    source: str


def achievable(detected: Detected, dtype: str, progress: Progress) -> Achievable:
    """What this GPU's products reach in a dtype: as it is known, or else by a short measurement."""
    here = cache.machine(detected)
    shapes = tuple(map(square, BRIEF_SIDES))
    part = cache.read(here, dtype, cache.now())
    if part is None or not part.covers(shapes):
        wanted = Wanted(dtype=dtype, ladder=(), shapes=shapes)
        task = CalibrateTask(
            device=detected.kind,
            wanted=(wanted,),
            least_array_bytes=None,
            room_bytes=_room(detected),
            effort=BRIEF,
        )
        try:
            (timed,) = runner.calibrate(task, progress)
        except UnavailableError as error:
            return Achievable(None, f"not measured: {error}")
        part = _part(here, dtype, timed)
        cache.keep(part)
    if not part.timed.products:
        return Achievable(
            None, "not measured: the products do not fit into the memory that is free"
        )
    best = calibration.best(part.timed.products)
    return Achievable(
        best.flops_per_s, f"{dtype} matrix product {best.shape}, measured {part.measured_at}"
    )


def _workload(
    question: Question, model: ModelConfig, kind: Literal["cuda", "cpu"], dtype: Dtype
) -> Workload:
    return Workload(
        batch_size=question.batch_size or BATCH[kind],
        seq_len=question.seq_len or model.n_ctx,
        dtype=dtype,
        attention="math",
    )


def _model_dtype(detected: Detected) -> Dtype:
    """What the device multiplies fastest of what trains."""
    if not detected.has_float16:
        return "float32"
    return "bfloat16" if detected.has_bfloat16 else "float16"


def _wanted(detected: Detected, dtype: str, shapes: tuple[Shape, ...]) -> Wanted:
    """The squares in a dtype, and these shapes. Every processor multiplies float32 itself."""
    squares = _ladder(detected)
    if dtype == "float32":
        return Wanted(dtype=dtype, ladder=(), shapes=(*squares, *shapes))
    return Wanted(dtype=dtype, ladder=squares, shapes=shapes)


def _ladder(detected: Detected) -> tuple[Shape, ...]:
    return tuple(map(square, SIDES[detected.kind]))


def _shapes(products: Iterable[Product]) -> tuple[Shape, ...]:
    """Each shape once."""
    return tuple(dict.fromkeys(product.shape for product in products))


def _room(detected: Detected) -> int:
    return int(ROOM_SHARE * detected.free_bytes)


def _known_or_measured(
    detected: Detected, wanted: tuple[Wanted, ...], fresh: bool, progress: Progress
) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """A part for each of `wanted` and one for memory, and what there is to say of them."""
    here = cache.machine(detected)
    parts = {} if fresh else _known(here, wanted)
    missing = tuple(w for w in wanted if w.dtype not in parts)
    asked = [*(w.dtype for w in missing), *((None,) if None not in parts else ())]
    notes: dict[str, None] = {}
    if asked:
        task = CalibrateTask(
            device=detected.kind,
            wanted=missing,
            least_array_bytes=LEAST_ARRAY_BYTES[detected.kind] if None in asked else None,
            room_bytes=_room(detected),
            effort=EFFORT[detected.kind],
        )
        for dtype, timed in zip(asked, runner.calibrate(task, progress), strict=True):
            parts[dtype] = _part(here, dtype, timed)
            notes[cache.keep(parts[dtype])] = None
    in_order = (*(w.dtype for w in wanted), None)
    return tuple(parts[dtype] for dtype in in_order), tuple(note for note in notes if note)


def _known(here: Machine, wanted: tuple[Wanted, ...]) -> dict[str | None, Part]:
    """What the cache has of what is wanted, and of memory."""
    now = cache.now()
    shapes: dict[str | None, tuple[Shape, ...]] = {w.dtype: (*w.ladder, *w.shapes) for w in wanted}
    shapes[None] = ()
    found = {dtype: cache.read(here, dtype, now) for dtype in shapes}
    return {d: part for d, part in found.items() if part is not None and part.covers(shapes[d])}


def _part(here: Machine, dtype: str | None, timed: Timed) -> Part:
    measured_at = cache.now().isoformat(timespec="seconds")
    return Part(machine=here, dtype=dtype, measured_at=measured_at, timed=timed)


# -- what it amounts to -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepTime:
    """All products of a step one after another: what is left when nothing else takes time."""

    flops: int
    time_s: float

    @property
    def flops_per_s(self) -> float:
        return self.flops / self.time_s


def step_time(found: Calibration) -> StepTime | None:
    """The products of the model's step, each as often as it is called; None without a model."""
    if found.work is None:
        return None
    times = {time.shape: time for time in found.times(found.work.dtype)}
    if any(product.shape not in times for product in found.products):
        return None
    return StepTime(
        flops=sum(p.calls * p.shape.flops for p in found.products),
        time_s=sum(p.calls * times[p.shape].time.median_s for p in found.products),
    )


def document(found: Calibration) -> dict[str, Any]:
    """The published JSON, in base units: `gptbench calibrate --format json`.

    `achievable.<dtype>` is the best product in a dtype; a `median` stands between the 5th and the
    95th percentile (`low`, `high`) of its `n` readings, of few between the extremes; shares are of
    the best, and of the table's peak where it knows one.
    """
    detected, row, memory = found.detected, found.row, found.memory
    return {
        "device": {
            "kind": detected.kind,
            "name": detected.name,
            "id": row.id if row else None,
            "memory_bytes": detected.memory_bytes,
            "cache_bytes": memory.timed.cache_bytes,
            "power_limit_w": detected.power_limit_w,
        },
        "environment": detected.environment,
        "achievable": {dtype: _achievable(found, dtype) for dtype in found.dtypes},
        "products": [
            _product_time(found, time) for dtype in found.dtypes for time in found.squares(dtype)
        ],
        "model": None if found.model is None else _model(found),
        "memory": {
            "array_bytes": memory.timed.array_bytes,
            "bandwidth_bytes_per_s": found.bandwidth_bytes_per_s,
            "share_of_peak": _share(
                found.bandwidth_bytes_per_s, row.bandwidth_bytes_per_s if row else None
            ),
            "transfers": [
                {
                    "name": transfer.name,
                    "bytes": transfer.moved_bytes,
                    "time_s": _spread(transfer.time),
                    "bytes_per_s": _rates(transfer.moved_bytes, transfer.time),
                    "n": transfer.time.n,
                }
                for transfer in memory.timed.transfers
            ],
            **_when(found, memory),
        },
        "launches": [
            {"name": launch.name, "time_s": _spread(launch.time), "n": launch.time.n}
            for launch in memory.timed.launches
        ],
        "left_out": [
            {"dtype": part.dtype, **_shape(out.shape), "why": out.why}
            for part in found.parts
            for out in part.timed.left_out
        ],
        "notes": list(found.notes),
    }


def spec_peak(found: Calibration, dtype: str) -> float | None:
    """The table's dense peak of the device in a dtype, as FLOP/s."""
    peak = found.row.peaks.get(dtype) if found.row else None
    return None if peak is None else peak.flops_per_s


def _achievable(found: Calibration, dtype: str) -> dict[str, Any]:
    best = found.best(dtype)
    part = next(part for part in found.parts if part.dtype == dtype)
    peak = spec_peak(found, dtype)
    return {
        "flops_per_s": best.flops_per_s,
        **_shape(best.shape),
        "peak_flops_per_s": peak,
        "share_of_peak": _share(best.flops_per_s, peak),
        **_when(found, part),
    }


def _when(found: Calibration, part: Part) -> dict[str, Any]:
    return {"measured_at": part.measured_at, "age_s": part.age(found.now).total_seconds()}


def _model(found: Calibration) -> dict[str, Any]:
    assert found.model is not None
    assert found.work is not None
    step = step_time(found)
    times = {time.shape: time for time in found.times(found.work.dtype)}
    best = found.best(found.work.dtype).flops_per_s if times else None
    return {
        "name": found.model.name,
        "batch_size": found.work.batch_size,
        "seq_len": found.work.seq_len,
        "dtype": found.work.dtype,
        "products": [
            {
                "name": product.name,
                "pass": product.direction,
                "calls": product.calls,
                **_product_time(found, times[product.shape]),
            }
            for product in found.products
            if product.shape in times
        ],
        "step": None
        if step is None
        else {
            "flops": step.flops,
            "time_s": step.time_s,
            "flops_per_s": step.flops_per_s,
            "share_of_best": _share(step.flops_per_s, best),
        },
    }


def _product_time(found: Calibration, time: ProductTime) -> dict[str, Any]:
    best = found.best(time.dtype)
    return {
        "dtype": time.dtype,
        **_shape(time.shape),
        "flops": time.shape.flops,
        "bytes": time.shape.moved_bytes(time.dtype),
        "time_s": _spread(time.time),
        "flops_per_s": _rates(time.shape.flops, time.time),
        "n": time.time.n,
        "share_of_best": time.flops_per_s / best.flops_per_s,
        "share_of_peak": _share(time.flops_per_s, spec_peak(found, time.dtype)),
    }


def _shape(shape: Shape) -> dict[str, Any]:
    names = ("batch", "m", "k", "n", "layout")
    return {name: getattr(shape, name) for name in names}


def _spread(time: Spread) -> dict[str, float]:
    return {"median": time.median_s, "low": time.low_s, "high": time.high_s}


def _rates(work: int, time: Spread) -> dict[str, float]:
    """The rates of a spread of times: the slowest reading is the lowest rate."""
    return {
        "median": work / time.median_s,
        "low": work / time.high_s,
        "high": work / time.low_s,
    }


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or whole is None else part / whole
