"""Every table that gptbench shows, as plain data: text, Markdown, CSV and HTML are made from it.

A cell is text, or a Quantity: a number in base units with the text a person reads. An unknown value
is a dash and never a zero.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from gptbench import flops
from gptbench.config import ModelConfig, Workload
from gptbench.device import PEAK_COLUMNS, Device
from gptbench.metrics import CONFIDENCE, Metrics
from gptbench.record import BatchSearch, Probe, Record
from gptbench.stats import Interval
from gptbench.units import gib, grouped, percent, seconds, si

DASH = "—"

# A spreadsheet takes a cell that begins so for a formula and runs it (OWASP, "CSV injection").
FORMULA_STARTS = "=+-@"

CONVENTION = (
    "A multiply-add is 2 FLOPs. Attention counted in full (no causal halving). No recompute."
)

# The dtypes in which models are trained and served: the columns of the list of GPUs.
LISTED_DTYPES = ("float32", "tf32", "float16", "bfloat16", "float8")

_KINDS = {"cuda": "GPU", "cpu": "CPU"}

CONFIDENCE_WORDS = {
    "A": "a vendor's own text",
    "B": "independent tables that cite the vendor",
    "C": "derived from clock and rate",
    "D": "press reports",
    "user": "a row of one's own",
}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in base units and how it is shown: CSV and sorting take it, people read the text."""

    value: float
    text: str

    def __str__(self) -> str:
        return self.text


Cell = str | Quantity


@dataclass(frozen=True, slots=True)
class Column:
    """`unit` is the base unit of its quantities. Prose `wraps`; nothing else is ever broken.

    A `spare` column is left out where a terminal is too narrow for it.
    """

    name: str
    right: bool = False
    unit: str = ""
    wraps: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A title, rows under columns, notes beneath; the last `total_rows` rows are totals."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    total_rows: int = 0

    @property
    def body(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[: len(self.rows) - self.total_rows]

    @property
    def totals(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[len(self.rows) - self.total_rows :]


# -- cells --------------------------------------------------------------------------------------


def _count(count: int) -> Quantity:
    return Quantity(count, grouped(count))


def _scaled(value: float) -> Quantity:
    return Quantity(value, si(value))


def _share(fraction: float) -> Quantity:
    return Quantity(fraction, percent(fraction))


def _known(value: float | None, show: Callable[[float], str]) -> Cell:
    return DASH if value is None else Quantity(value, show(value))


def rate(per_s: float) -> str:
    """Tokens/s: whole ones with thousands apart, four digits of a small number."""
    return grouped(round(per_s)) if per_s >= 100 else f"{per_s:.4g}"


def interval(found: Interval, show: Callable[[float], str]) -> str:
    """The bounds of an interval, and what it is an interval of."""
    bounds = f"[{show(found.low)} – {show(found.high)}]"
    return f"{percent(CONFIDENCE, 0)} within-run {bounds}, n = {found.n}"


def workload(work: Workload) -> str:
    """A workload in words: 'train, 8 × 1024 tokens, bfloat16 (autocast), fused attention'."""
    kind = "TF32" if work.tf32 else work.dtype
    dtype = f"{kind} (autocast)" if work.autocast else kind
    compiled = ", compiled" if work.compile else ""
    tokens = f"{work.batch_size} × {work.seq_len} tokens"
    return f"{work.mode}, {tokens}, {dtype}, {work.attention} attention{compiled}"


# -- the ledger ---------------------------------------------------------------------------------


def ledger(model: ModelConfig, work: Workload) -> Table:
    """Every matrix product of a step, the tables beside them, and what they add up to."""
    rows = flops.matmuls(model, work)
    cost = flops.step_flops(model, work)
    total = flops.parameters(model).total
    body = [_ledger_row(row, cost.forward) for row in rows]
    body += [
        (v.name, f"{v.count} × [{v.size}]", _count(v.parameters), DASH, DASH)
        for v in flops.vectors(model)
        if v.parameters
    ]
    totals = _ledger_totals(cost, total)
    step = f", {grouped(cost.step)} a training step" if cost.backward else ""
    return Table(
        title=f"{model.name}, {work.batch_size} × {work.seq_len} tokens, "
        f"{grouped(total)} parameters",
        columns=(
            Column("matmul"),
            Column("products"),
            Column("parameters", right=True),
            Column("FLOPs", right=True),
            Column("share", right=True),
        ),
        rows=(*body, *totals),
        notes=(
            CONVENTION,
            f"Exactly {grouped(cost.forward)} FLOPs forward{step}.",
        ),
        total_rows=len(totals),
    )


def _ledger_row(row: flops.Matmul, forward: int) -> tuple[Cell, ...]:
    parameters: Cell = _count(row.parameters) if row.parameters else DASH
    if row.name == "unembed" and not row.parameters:
        parameters = "tied"
    return (
        row.name,
        f"{row.count} × [{row.m}, {row.k}, {row.n}]",
        parameters,
        _scaled(row.flops),
        _share(row.flops / forward),
    )


def _ledger_totals(cost: flops.StepFlops, parameters: int) -> list[tuple[Cell, ...]]:
    per_token = f"{si(cost.per_token)} per token"
    forward = "" if cost.backward else per_token
    rows: list[tuple[Cell, ...]] = [
        ("forward", forward, _count(parameters), _scaled(cost.forward), _share(1.0))
    ]
    if cost.backward:
        rows += [
            ("backward", "twice the forward", "", _scaled(cost.backward), ""),
            ("training step", per_token, "", _scaled(cost.step), ""),
        ]
    return rows


def conventions(model: ModelConfig, work: Workload) -> Table:
    """FLOPs per token of a step as other people count them, against the exact count."""
    counts = flops.conventions(model, work)
    words = _convention_words(3 if work.mode == "train" else 1)
    rows = tuple(
        (
            name,
            _scaled(count),
            Quantity(count / counts["exact_full"], f"{count / counts['exact_full']:.3f}"),
            words[name],
        )
        for name, count in counts.items()
    )
    return Table(
        title=f"{model.name}: FLOPs per token under other conventions",
        columns=(
            Column("convention"),
            Column("FLOPs", right=True),
            Column("ratio", right=True),
            Column("what it counts", wraps=True),
        ),
        rows=rows,
        notes=("MFU scales with the ratio: compare it only under one convention.",),
    )


def _convention_words(passes: int) -> dict[str, str]:
    two, four = 2 * passes, 4 * passes
    return {
        "exact_full": "every matrix product, attention in full; the default here",
        "exact_causal": "every matrix product, attention as a causal mask keeps it",
        "palm": f"{two}P + {four}·L·N·H·T, P all parameters (PaLM, App. B)",
        "6n": f"{two}P, P all parameters",
        "6n_non_embedding": f"{two}P, P without tables and head (Kaplan et al. 2020)",
    }


def checks(found: Sequence[dict[str, Any]]) -> Table:
    """Other tools' counts held to the ledger's; one that differs is followed by its operators."""
    rows: list[tuple[Cell, ...]] = []
    for check in found:
        what = (check["tool"], check["attention"], check["direction"])
        rows.append((*what, _count(check["flops"]), _count(check["difference"])))
        if check["difference"]:
            rows += [
                (f"  {o['operator']}", "", "", _count(o["flops"]), _count(o["difference"]))
                for o in check["operators"]
            ]
    differing = sum(bool(check["difference"]) for check in found)
    verdict = (
        f"{differing} of {len(found)} counts differ from the ledger."
        if differing
        else f"All {len(found)} counts agree with the ledger to the last FLOP."
    )
    return Table(
        title="Cross-check of the ledger",
        columns=(
            Column("tool", wraps=True),
            Column("attention"),
            Column("pass"),
            Column("FLOPs", right=True),
            Column("difference", right=True),
        ),
        rows=tuple(rows),
        notes=(verdict,),
    )


# -- models and devices -------------------------------------------------------------------------


def presets(models: dict[str, ModelConfig]) -> Table:
    """Every known model with the sizes people tell them apart by."""
    sizes = ("n_layers", "d_model", "n_heads", "n_ctx", "vocab_size")
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            *(Quantity(getattr(model, size), str(getattr(model, size))) for size in sizes),
            _count(flops.parameters(model).total),
        )
        for name, model in models.items()
    )
    return Table(
        title="Presets",
        columns=(
            Column("name"),
            *(Column(size, right=True) for size in sizes),
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
        ("parameters", _count(counted.total)),
        ("without embedding", _count(counted.non_embedding)),
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
            _known(device.memory_bytes, giga),
            _known(device.bandwidth_bytes_per_s, giga),
            *(
                _known(peak.flops_per_s if peak else None, tera)
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
        ("memory", _known(device.memory_bytes, lambda size: f"{size / 1e9:g} GB")),
        ("bandwidth", _known(device.bandwidth_bytes_per_s, lambda size: f"{size / 1e9:g} GB/s")),
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


# -- results ------------------------------------------------------------------------------------


def result(rec: Record, metrics: Metrics) -> Table:
    """The answer of the main job: each number with how it was come by."""
    taken, search = rec.measurement, rec.batch_search
    window = seconds(taken.window_ns / 1e9)
    steps = len(taken.step_ns)
    rows: list[tuple[Cell, ...]] = [
        (
            "tokens/s",
            Quantity(metrics.window_tokens_per_s, rate(metrics.window_tokens_per_s)),
            f"all tokens over all wall time: {steps} steps in {window}",
        ),
        (
            "tokens/s, median step",
            Quantity(metrics.tokens_per_s.median, rate(metrics.tokens_per_s.median)),
            interval(metrics.tokens_per_s, rate),
        ),
        (
            "step time, median",
            Quantity(metrics.step_time_s.median, seconds(metrics.step_time_s.median)),
            interval(metrics.step_time_s, seconds),
        ),
        *_utilization(rec, metrics),
        (
            "model FLOPs per token",
            _scaled(metrics.flops.per_token),
            "every matrix product, attention in full",
        ),
        ("peak memory", _known(taken.peak_memory_bytes, gib), _memory_words(rec)),
    ]
    if search is not None:
        rows.append(("largest batch", _count(search.max_batch_size), certificate(search)))
    rows += [
        ("parameters", _count(metrics.parameters.total), rec.model.name),
        ("device", _KINDS[rec.device.kind], f"{rec.device.name}, {gib(rec.device.memory_bytes)}"),
        ("workload", rec.workload.mode, workload(rec.workload).partition(", ")[2]),
    ]
    return Table(
        title=f"{rec.model.name} on {rec.device.name}",
        columns=(Column("quantity"), Column("value", right=True), Column("how", wraps=True)),
        rows=tuple(rows),
    )


def _utilization(rec: Record, metrics: Metrics) -> list[tuple[Cell, ...]]:
    peak = metrics.peak_flops_per_s
    against = (
        f"unknown: {rec.device.peak_source}"
        if peak is None
        else f"model FLOP/s over {si(peak, 'FLOP/s')} {rec.device.peak_dtype} "
        f"({rec.device.peak_source})"
    )
    rows: list[tuple[Cell, ...]] = [
        ("MFU", _known(metrics.mfu, percent), against),
        ("HFU", _known(metrics.hfu, percent), "with recomputed FLOPs, of which there are none"),
    ]
    if metrics.flops.recompute:
        rows[1] = (*rows[1][:2], f"with {si(metrics.flops.recompute)} recomputed FLOPs a step")
    achievable = rec.device.achievable_flops_per_s
    if achievable is not None:
        best = f"against {si(achievable, 'FLOP/s')}, the best matrix-product rate measured here"
        rows.append(("achievable MFU", _known(metrics.achievable_mfu, percent), best))
    return rows


def _memory_words(rec: Record) -> str:
    if rec.measurement.peak_memory_bytes is None:
        return "unknown: the system does not tell"
    if rec.device.kind == "cuda":
        return "held by the caching allocator"
    return "of the process, above its size at the start"


def certificate(search: BatchSearch) -> str:
    """Why the largest batch is the largest."""
    size, limit = search.max_batch_size, f"{gib(search.limit_bytes)} ({search.limit_source})"
    if search.stopped_by == "largest asked for":
        return f"{size} ran within {limit}; no larger one was asked for"
    return f"{size} ran and {size + 1} did not, within {limit}"


def probes(search: BatchSearch) -> Table:
    """Every trial of the search for the largest batch, in the order in which they were made."""
    return Table(
        title=f"Batch search: {search.max_batch_size} is the largest that fits",
        columns=(
            Column("batch size", right=True),
            Column("fits"),
            Column("peak memory", right=True),
            Column("step time", right=True),
            Column("reason", wraps=True),
        ),
        rows=tuple(map(_probe, search.probes)),
        notes=(f"{certificate(search)}.",),
    )


def _probe(probe: Probe) -> tuple[Cell, ...]:
    time_s = None if probe.step_ns is None else probe.step_ns / 1e9
    return (
        _count(probe.batch_size),
        "yes" if probe.fits else "no",
        _known(probe.peak_memory_bytes, gib),
        _known(time_s, seconds),
        probe.reason or "",
    )


def steps(rec: Record, most: int = 50) -> Table:
    """The timed steps; where there are more than `most`, in runs of neighbours."""
    times = [ns / 1e9 for ns in rec.measurement.step_ns]
    width = -(-len(times) // most)
    rows: list[tuple[Cell, ...]] = []
    for start in range(0, len(times), width):
        run = times[start : start + width]
        name = f"{start + 1}" if len(run) == 1 else f"{start + 1}–{start + len(run)}"
        values = (min(run), median(run), max(run))
        rows.append((Quantity(start + 1, name), *(Quantity(v, seconds(v)) for v in values)))
    names = ("fastest", "median", "slowest")
    return Table(
        title="Timed steps",
        columns=(Column("steps", right=True), *(Column(n, right=True, unit="s") for n in names)),
        rows=tuple(rows),
    )


def utilization(rec: Record, metrics: Metrics) -> Table:
    """What became of the peak: the numbers behind the bar."""
    rows: list[tuple[Cell, ...]] = _utilization(rec, metrics)
    return Table(
        title="Utilization",
        columns=(Column("quantity"), Column("value", right=True), Column("how", wraps=True)),
        rows=tuple(rows),
    )


def comparison(records: Sequence[Record], results: Sequence[Metrics]) -> Table:
    """Several results side by side, in the order given."""
    rows = tuple(
        (
            rec.model.name,
            rec.device.name,
            workload(rec.workload),
            Quantity(found.window_tokens_per_s, rate(found.window_tokens_per_s)),
            _known(found.mfu, percent),
            Quantity(found.step_time_s.median, seconds(found.step_time_s.median)),
            _known(rec.measurement.peak_memory_bytes, gib),
        )
        for rec, found in zip(records, results, strict=True)
    )
    return Table(
        title="Results side by side",
        columns=(
            Column("model"),
            Column("device", wraps=True),
            Column("workload", wraps=True),
            Column("tokens/s", right=True),
            Column("MFU", right=True),
            Column("step time", right=True, unit="s"),
            Column("peak memory", right=True, unit="bytes"),
        ),
        rows=rows,
    )


def provenance(rec: Record) -> Table:
    """Where a record is from: versions, machine, data, and how the window ended."""
    facts = {
        "gptbench": rec.gptbench_version,
        "record schema": rec.schema_version,
        "started at": rec.started_at,
        "window ended by": rec.measurement.stop,
        "first loss": f"{rec.measurement.first_loss:.4g}",
        "last loss": f"{rec.measurement.last_loss:.4g}",
        **rec.environment,
    }
    rows = tuple((name, DASH if value is None else str(value)) for name, value in facts.items())
    return Table(
        title="Provenance", columns=(Column("fact"), Column("value", wraps=True)), rows=rows
    )
