"""The tables of what gptbench knows by name: models and devices."""

from collections.abc import Iterable
from dataclasses import fields

from gptbench import flops
from gptbench.config import ModelConfig
from gptbench.device import PEAK_COLUMNS, Device
from gptbench.report.table import DASH, Cell, Column, Quantity, Table, count, known

# The dtypes in which models are trained and served: the columns of the list of GPUs.
LISTED_DTYPES = ("float32", "tf32", "float16", "bfloat16", "float8")

CONFIDENCE_WORDS = {
    "A": "a vendor's own text",
    "B": "independent tables that cite the vendor",
    "C": "derived from clock and rate",
    "D": "press reports",
    "user": "a row of one's own",
}


def presets(models: dict[str, ModelConfig]) -> Table:
    """Every known model with the sizes people tell them apart by."""
    sizes = ("n_layers", "d_model", "n_heads", "n_ctx", "vocab_size")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            *(Quantity(getattr(model, size), str(getattr(model, size))) for size in sizes),
            count(flops.parameters(model).total),
        )
        for name, model in models.items()
    )
    return Table(
        title="Presets",
        columns=(
            Column("name"),
            # 80 columns hold the longest name and the most parameters with a short word for this.
            *(Column(size.removesuffix("_size"), right=True) for size in sizes),
            Column("parameters", right=True),
        ),
        rows=rows,
        notes=("'gptbench presets NAME' shows one in full.",),
    )


def preset(model: ModelConfig) -> Table:
    """One model: every field, and its parameters."""
    counted = flops.parameters(model)
    rows: list[tuple[Cell, ...]] = [
        (field.name, _field(getattr(model, field.name))) for field in fields(model)
    ]
    totals: list[tuple[Cell, ...]] = [
        ("parameters", count(counted.total)),
        ("without embedding", count(counted.non_embedding)),
    ]
    return Table(
        title=model.name,
        columns=(Column("field"), Column("value", right=True)),
        rows=(*rows, *totals),
        total_rows=len(totals),
    )


def _field(value: object) -> Cell:
    """A field as a preset file spells it."""
    if isinstance(value, bool):
        return str(value).lower()
    return Quantity(value, f"{value:.10g}") if isinstance(value, int | float) else str(value)


def gpus(devices: Iterable[Device]) -> Table:
    """Every device with the dense peaks that people train in, in TFLOP/s."""

    def tera(value: float) -> str:
        return f"{value / 1e12:g}"

    def giga(value: float) -> str:
        return f"{value / 1e9:g}"

    rows = tuple(
        (
            device.id,
            device.name,
            known(device.memory_bytes, giga),
            known(device.bandwidth_bytes_per_s, giga),
            *(
                known(peak.flops_per_s if peak else None, tera)
                for peak in map(device.peaks.get, LISTED_DTYPES)
            ),
            device.confidence,
        )
        for device in devices
    )
    return Table(
        title="Devices: dense peaks in TFLOP/s, memory in GB, bandwidth in GB/s",
        columns=(
            Column("id"),
            Column("name", spare=True),
            Column("memory", right=True, unit="bytes"),
            Column("GB/s", right=True, unit="bytes/s"),
            *(Column(dtype, right=True, unit="FLOP/s") for dtype in LISTED_DTYPES),
            Column("sure"),
        ),
        rows=rows,
        notes=(
            "How sure the tensor peaks are: "
            + "; ".join(f"{grade}, {words}" for grade, words in CONFIDENCE_WORDS.items())
            + ".",
            "'gptbench gpus ID' shows the source of a peak.",
        ),
    )


def gpu(device: Device) -> Table:
    """One device: every peak, where it is from, and what to know about it."""
    rows: list[tuple[Cell, ...]] = [
        (dtype, _peak(device, dtype)) for dtype in PEAK_COLUMNS.values()
    ]
    rows += [
        ("memory", known(device.memory_bytes, lambda size: f"{size / 1e9:g} GB")),
        ("bandwidth", known(device.bandwidth_bytes_per_s, lambda size: f"{size / 1e9:g} GB/s")),
    ]
    sources = dict.fromkeys(peak.source for peak in device.peaks.values())
    graded = CONFIDENCE_WORDS.get(device.confidence, device.confidence)
    maker = " ".join(filter(None, (device.vendor, device.architecture)))
    notes = [
        f"Source of the peaks: {'; '.join(sources) or DASH}.",
        f"The tensor peaks are from {graded} ({device.confidence}).",
        device.note,
    ]
    return Table(
        title=f"{device.id}: {device.name}{f' ({maker})' if maker else ''}",
        columns=(Column("dense peak"), Column("value", right=True)),
        rows=tuple(rows),
        notes=tuple(note for note in notes if note),
        total_rows=2,
    )


def _peak(device: Device, dtype: str) -> Cell:
    if dtype not in device.peaks:
        return DASH
    rate_per_s = device.peaks[dtype].flops_per_s
    unit = "TOP/s" if dtype == "int8" else "TFLOP/s"
    return Quantity(rate_per_s, f"{rate_per_s / 1e12:g} {unit}")
