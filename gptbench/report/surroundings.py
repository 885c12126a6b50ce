"""The table of what was seen beside a window: clocks, power, heat, energy, and who else was there."""

from collections.abc import Callable

from gptbench import telemetry
from gptbench.record import Record
from gptbench.report.table import DASH, Cell, Column, Table
from gptbench.telemetry import Host, Sample, Telemetry
from gptbench.units import grouped, joules, percent, seconds, si

SAMPLED: tuple[tuple[str, Callable[[Sample], float | None], Callable[[float], str]], ...] = (
    ("clock", lambda s: s.clock_hz, lambda v: si(v, "Hz")),
    ("memory clock", lambda s: s.memory_clock_hz, lambda v: si(v, "Hz")),
    ("power", lambda s: s.power_w, lambda v: f"{v:.0f} W"),
    ("temperature", lambda s: s.temperature_c, lambda v: f"{v:.0f} °C"),
)


def table(rec: Record) -> Table | None:
    """What was seen, and what could not be with its reason; None of a record without telemetry."""
    seen = rec.telemetry
    if seen is None:
        return None
    unknown = dict(seen.missing)
    if seen.energy.joules is None:
        unknown["energy"] = seen.energy.reason
    rows: list[tuple[Cell, ...]] = [
        *((name, value, "") for name, value in (*_device(seen), *_host(seen.host))),
        *((name.replace("_", " "), DASH, f"{why}") for name, why in unknown.items()),
    ]
    return Table(
        title="Beside the window",
        columns=(Column("quantity"), Column("value"), Column("why unknown", wraps=True)),
        rows=tuple(rows),
    )


def _device(seen: Telemetry) -> list[tuple[str, str]]:
    found = []
    for name, read, show in SAMPLED:
        values = telemetry.spread(seen.samples, read)
        if values is not None:
            bounds = f"median {show(values.median)}, from {show(values.low)} to {show(values.high)}"
            found.append((name, bounds))
    capped = telemetry.power_capped(seen.samples)
    if capped is not None:
        found.append(("at the power limit", f"{percent(capped, 0)} of {len(seen.samples)} samples"))
    if seen.energy.joules is not None:
        found.append(("energy", f"{joules(seen.energy.joules)} of the {seen.energy.scope}"))
    return found


def _host(host: Host) -> list[tuple[str, str]]:
    others = telemetry.others_cores(host)
    facts: tuple[tuple[str, float | None, Callable[[float], str]], ...] = (
        ("cores used by the steps", host.own_ns / host.wall_ns, lambda v: f"{v:.2f}"),
        ("cores used by others", others, lambda v: f"{v:.2f}"),
        ("waiting for a core", _share(host.pressure_ns, host), percent),
        ("stolen by the hypervisor", host.stolen_ns, lambda v: seconds(v / 1e9)),
        ("periods stopped by a quota", host.throttled_periods, lambda v: grouped(int(v))),
        ("involuntary switches", host.involuntary_switches, lambda v: grouped(int(v))),
        ("pages read from disk", host.major_faults, lambda v: grouped(int(v))),
    )
    return [(name, show(value)) for name, value, show in facts if value is not None]


def _share(part_ns: int | None, host: Host) -> float | None:
    return None if part_ns is None else part_ns / host.wall_ns
