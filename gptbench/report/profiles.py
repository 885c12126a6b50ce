"""The tables of a profile: the waterfall, the products, the roofline, the modules."""

from gptbench.calibration import Shape
from gptbench.components import roofs
from gptbench.profiling import Profile
from gptbench.report import components, findings, modules, words
from gptbench.report.results import interval
from gptbench.report.table import DASH, Cell, Column, Quantity, Table, count, known
from gptbench.units import percent, seconds, si
from gptbench.waterfall import Part, ProductRow, Waterfall, percentages, reach

# Of more shapes than this, those that take longest are shown; the document has all.
MOST_PRODUCTS = 16

NAMES = {
    "useful": "model FLOPs at peak (MFU)",
    "recompute": "recomputed FLOPs at peak",
    "credit": "counting credit",
    "products": "matrix products",
    "reach": "products: peak out of reach",
    "shape": "products: their shapes",
    "context": "products: slower in the step",
    "attention": "attention below peak",
    "embedding": "embedding",
    "norm": "norms",
    "activation": "activations",
    "softmax": "softmax",
    "elementwise": "sums and other element-wise",
    "copy": "casts and copies",
    "loss": "loss",
    "optimizer": "optimizer",
    "communication": "communication not hidden",
    "data": "data",
    "host": "host: between operators",
    "sync": "host: waits for the device",
    "launch": "launched and waiting",
    "tail": "after the last kernel",
    "other": "unexplained",
}

HOW = {
    "recompute": "run again in the backward pass: part of the HFU, not of the MFU",
    "credit": "FLOPs that the MFU counts and a causal kernel leaves out",
    "products": "no peak is known to hold them to",
    "shape": "what these shapes, each by itself, take over the best product",
    "context": "what they take in the step over each by itself",
    "communication": "no kernel ran beside it",
    "data": "reading the next batch",
    "launch": "the queue was late: many small kernels, or a full one",
    "sync": "such as .item(), or a copy to the host",
    "tail": "nothing left to run",
}

# Name and meaning of each column of profile.csv, in order.
COLUMNS: dict[str, str] = {
    "class": "what the operator is: gemm, attention, norm, copy, ...; data, host, sync, launch and tail are idle",
    "module": "path of the module whose forward it ran in; model for the model itself, empty outside of it",
    "pass": "forward, backward, recompute or update",
    "operator": "name of the operator or kernel; empty of idle time",
    "product": "shape of a matrix product: m × k × n and how its operands are stored",
    "calls": "how often it ran in a step",
    "time (s)": "time in a step without the profiler, scaled to it; all rows sum to the step",
    "share": "share of the step, from 0 to 1",
    "flops": "FLOPs that ran",
    "moved (bytes)": "bytes that it must read and write, each operand once; empty where unknown",
}

ALONE = (
    "Alone: the same product by itself, on random numbers that take turns. Lost: what it takes in "
    "the step over that; a product that was slower alone lost nothing."
)
EXACT = "The parts sum to the step to the nanosecond, and the shares to 100.0."


def tables(
    profile: Profile, waterfall: Waterfall, depth: int = modules.DEPTH, indented: bool = True
) -> list[Table]:
    """The waterfall, products, roofline, modules down to `depth`, and what to change."""
    shapes = [products(profile, waterfall)] if waterfall.products else []
    limits = roofs(profile)
    return [
        parts(profile, waterfall),
        *shapes,
        *([components.table(profile, waterfall, limits)] if limits else []),
        modules.tree(profile, waterfall, depth, indented),
        findings.table(profile, waterfall),
    ]


def parts(profile: Profile, waterfall: Waterfall) -> Table:
    """The waterfall: each part with its time, its share, and what it is held to."""
    shares = percentages([part.ns for part in waterfall.parts])
    rows = tuple(
        _part(part, share, profile, waterfall)
        for part, share in zip(waterfall.parts, shares, strict=True)
    )
    step: tuple[Cell, ...] = (
        "step",
        _time(waterfall.step_ns),
        Quantity(1.0, f"{sum(round(10 * s) for s in shares) / 10:.1f}%"),
        "",
        f"median without the profiler; {interval(waterfall.step_time_s, seconds)}",
    )
    where = f"{profile.model.name} on {profile.device.name}: {words.workload(profile.workload)}"
    return Table(
        title=f"Where the time of a step goes, {where}",
        columns=(
            Column("part"),
            Column("time", right=True, unit="s"),
            Column("share", right=True),
            Column("at bandwidth", right=True, unit="s", spare=True),
            Column("how", wraps=True),
        ),
        rows=(*rows, step),
        notes=(EXACT, *_bandwidth(profile), _overhead(profile, waterfall), *profile.profiled.notes),
        total_rows=1,
    )


def _part(part: Part, share: float, profile: Profile, waterfall: Waterfall) -> tuple[Cell, ...]:
    return (
        NAMES[part.key],
        _time(part.ns),
        Quantity(part.ns / waterfall.step_ns, f"{share:.1f}%"),
        known(None if part.ideal_ns is None else part.ideal_ns / 1e9, seconds),
        _how(part, profile, waterfall),
    )


def _how(part: Part, profile: Profile, waterfall: Waterfall) -> str:
    """What the part is held to, or why it takes time."""
    device = profile.device
    match part.key, part.kind:
        case "useful", _:
            words = f"at {si(device.peak_flops_per_s or 0.0, 'FLOP/s')}: {device.peak_source}"
        case "reach", _:
            words = f"the best product measured here is {si(reach(profile) or 0.0, 'FLOP/s')}"
        case "attention", _:
            masked = any(work.masked for work in profile.profiled.work)
            words = "what its kernel takes over its FLOPs" + (" under the mask" if masked else "")
        case "host", _:
            words = "Python, and what an operator does before it works"
        case _, "memory":
            words = _moved(part)
        case _, "unexplained":
            words = ", ".join(_unknown(waterfall)) or "every operator has a class"
        case key, _:
            words = HOW[key]
    return words


def _moved(part: Part) -> str:
    if part.moved_bytes is None:
        return "bytes unknown"
    least = "" if part.bytes_complete else "at least "
    rate = part.moved_bytes / part.ns * 1e9 if part.ns else 0.0
    return f"{least}{si(part.moved_bytes, 'B')} to move: {si(rate, 'B/s')}"


def _unknown(waterfall: Waterfall) -> list[str]:
    """The operators of no known class that took longest."""
    found: dict[str, int] = {}
    for work, ns in waterfall.rows:
        if work.kind == "other":
            found[work.operator] = found.get(work.operator, 0) + ns
    return sorted(found, key=lambda name: -found[name])[:3]


def _bandwidth(profile: Profile) -> tuple[str, ...]:
    rate = profile.bandwidth_bytes_per_s
    if rate is None:
        return ("The bandwidth was not measured: the arrays did not fit.",)
    sentence = (
        f"At bandwidth: what must be read and written, each operand once, at {si(rate, 'B/s')}, "
        "the fastest pass over memory measured here. A cache can be faster."
    )
    return (sentence,)


def _overhead(profile: Profile, waterfall: Waterfall) -> str:
    turns = len(profile.profiled.profiled_ns)
    how = "longer" if waterfall.overhead >= 0 else "shorter"
    return (
        f"With the profiler a step took {seconds(waterfall.profiled_ns / 1e9)}, "
        f"{percent(abs(waterfall.overhead))} {how}: the median of {turns}, in turns with those "
        "without. The parts are scaled to the step without it."
    )


def products(profile: Profile, waterfall: Waterfall) -> Table:
    """The products, shape by shape: in the step, and each by itself."""
    shown, hidden = waterfall.products[:MOST_PRODUCTS], waterfall.products[MOST_PRODUCTS:]
    rows = tuple(_product(row, profile, waterfall.step_ns) for row in shown)
    notes = [ALONE]
    if hidden:
        rest = percent(sum(row.ns for row in hidden) / waterfall.step_ns)
        notes.append(f"{len(hidden)} more shapes take {rest} of the step.")
    return Table(
        title="Matrix products by shape",
        columns=(
            Column("product"),
            Column("pass"),
            Column("calls", right=True),
            Column("time", right=True, unit="s"),
            Column("share", right=True),
            Column("FLOP/s", right=True),
            Column("alone", right=True),
            Column("of peak", right=True, spare=True),
            Column("lost", right=True, unit="s"),
        ),
        rows=rows,
        notes=tuple(notes),
    )


def _product(row: ProductRow, profile: Profile, step_ns: int) -> tuple[Cell, ...]:
    rate, alone = row.flops_per_s, row.alone_flops_per_s
    peak = profile.device.peak_flops_per_s
    lost = None if row.alone_ns is None else max(0, row.ns - row.alone_ns) / 1e9
    return (
        f"{_shape(row.shape)}{_format(row, profile)}",
        ", ".join(row.directions),
        count(row.calls),
        _time(row.ns),
        known(row.ns / step_ns, percent),
        known(rate, si),
        known(alone, si),
        known(rate / peak if rate and peak else None, percent),
        known(lost, seconds),
    )


def _format(row: ProductRow, profile: Profile) -> str:
    """' float32', where that is not what the model multiplies in."""
    return "" if row.dtype == profile.workload.matmul_dtype else f" {row.dtype}"


def _shape(shape: Shape) -> str:
    """'2048 × 768 × 3072 NT', or '24 × (1024 × 64 × 1024) NN'."""
    product = f"{shape.m} × {shape.k} × {shape.n}"
    return f"{f'{shape.batch} × ({product})' if shape.batch > 1 else product} {shape.layout}"


def _time(ns: int) -> Cell:
    if ns < 0:
        return Quantity(ns / 1e9, f"-{seconds(-ns / 1e9)}")
    return Quantity(ns / 1e9, seconds(ns / 1e9))


def tidy(profile: Profile, waterfall: Waterfall) -> Table:
    """One row for each operator in each module, pass and shape: what all the rest is made of."""
    return Table(
        title=profile.model.name,
        columns=tuple(Column(name) for name in COLUMNS),
        rows=tuple(
            (
                work.kind,
                "" if work.module is None else work.module or "model",
                work.direction,
                work.operator,
                _shape(work.product) if work.product else "",
                count(work.calls),
                _time(ns),
                known(ns / waterfall.step_ns, percent),
                count(work.executed_flops),
                known(work.moved_bytes, lambda size: si(size, "B")),
            )
            for work, ns in waterfall.rows
        ),
    )


def provenance(profile: Profile) -> Table:
    """Where a profile is from: versions, machine, and how it was taken."""
    seen = profile.profiled
    facts = {
        "gptbench": profile.gptbench_version,
        "record schema": profile.schema_version,
        "started at": profile.started_at,
        "command": profile.command,
        "steps without the profiler": len(seen.step_ns),
        "steps with the profiler": len(seen.profiled_ns),
        "peak": profile.device.peak_source,
        **seen.environment,
    }
    rows = tuple((name, DASH if value is None else str(value)) for name, value in facts.items())
    return Table(
        title="Provenance", columns=(Column("fact"), Column("value", wraps=True)), rows=rows
    )
