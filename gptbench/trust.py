"""How far a measurement may be trusted: what disturbed it, and what its median would hide.

Each finding is a caveat, with the numbers that its sentence needs. None changes a result.
"""

import statistics
from dataclasses import dataclass
from itertools import accumulate

from gptbench import series, telemetry
from gptbench.record import Measurement, Record
from gptbench.tasks import Kind
from gptbench.telemetry import Telemetry

# A trend of this much over a window is no scatter (Theil-Sen, with Mann-Kendall's |Z| > 2.58).
DRIFT = {"cuda": 0.01, "cpu": 0.02}

# What the wall clock may show beyond the steps' own sum, and for each wait of a run at the least.
UNACCOUNTED = 0.01
WAIT_NS = 300_000

# A GPU that is done with a step this soon after it was given the step, in steps, waits for the host.
RUN_AHEAD = 0.05

# A clock that falls this much while nothing is said to hold it down; and one that drifts.
LOW_CLOCK = 0.75
BELOW_LIMIT = 0.8
CLOCK_DRIFT = 0.02

# Disturbances that are no one's own doing.
_OF_OTHERS = ("others_cores", "stolen", "throttled_periods")

# Sampled power and the energy counter differ by less on cards that are right about both.
ENERGY_DISAGREES = 0.1


@dataclass(frozen=True, slots=True)
class Caveat:
    """Something a reader must know to read the numbers right: a code and the numbers it needs.

    `report.caveats` has the sentence for each code.
    """

    code: str
    values: dict[str, float | int | str]


def caveats(rec: Record) -> list[Caveat]:
    """What is to be known of how a record was measured, in the order of its weight."""
    found = [*_timing(rec), *_series(rec)]
    if rec.telemetry is not None:
        found += [*_device(rec.telemetry, rec.device.kind), *_host(rec.telemetry)]
    return found


def beside(seen: Telemetry, kind: Kind) -> list[Caveat]:
    """What disturbed steps with a profiler between them: a card held down, or others at work.

    Who waited for a core is not told: that may have been the profiler, at what it had seen.
    """
    found = [one for one in _device(seen, kind) if one.code in ("throttled", "shared-device")]
    others = {k: v for k, v in telemetry.disturbances(seen.host).items() if k in _OF_OTHERS}
    return [*found, Caveat("disturbed", {**others})] if others else found


def unaccounted_ns(taken: Measurement) -> int:
    """Wall time of the window that no step accounts for."""
    return taken.window_ns - sum(taken.step_ns)


def run_ahead(taken: Measurement) -> float | None:
    """How far the host is ahead of the GPU when it has given it a step, in steps; the median.

    None where the host is the device.
    """
    if not taken.handed_ns:
        return None
    ahead, first = [], 0
    for steps in taken.run_steps or (len(taken.step_ns),):
        done = accumulate(taken.step_ns[first : first + steps])
        handed = taken.handed_ns[first : first + steps]
        ahead += [end - given for end, given in zip(done, handed, strict=True)]
        first += steps
    return statistics.median(ahead) / statistics.median(taken.step_ns)


def clock_change(seen: Telemetry, kind: Kind) -> float | None:
    """How much faster the steps' clock was at the end; None where it is not known to be theirs."""
    told = kind == "cuda" or telemetry.clock_is_of_the_steps(seen.host)
    return telemetry.clock_change(seen.samples) if told else None


def _timing(rec: Record) -> list[Caveat]:
    """Whether what was timed is what ran."""
    taken, found = rec.measurement, []
    beyond = unaccounted_ns(taken)
    allowed = max(UNACCOUNTED * taken.window_ns, WAIT_NS * max(1, len(taken.run_steps)))
    # Where marks were taken at all: what the clock of a CPU marks is the window.
    if taken.handed_ns and not -WAIT_NS <= beyond <= allowed:
        share = beyond / taken.window_ns
        found.append(Caveat("timing-inconsistent", {"share": share}))
    ahead = run_ahead(taken)
    if ahead is not None and ahead < RUN_AHEAD:
        found.append(Caveat("host-bound", {"ahead": ahead}))
    if taken.recompiled:
        found.append(Caveat("recompiling", {"times": taken.recompiled}))
    if taken.alloc_retries:
        found.append(Caveat("marginal-memory", {"times": taken.alloc_retries}))
    if taken.collector_held is False:
        found.append(Caveat("garbage-tensors", {}))
    return found


def _series(rec: Record) -> list[Caveat]:
    """What the steps do that a median does not tell."""
    times = [ns / 1e9 for ns in rec.measurement.step_ns]
    trend, modes = series.trend(times), series.two_modes(times)
    found = []
    if trend.exceeds(DRIFT[rec.device.kind]):
        found.append(Caveat("drift", {"change": trend.change}))
    if modes is not None:
        values = {"fast_s": modes.fast, "slow_s": modes.slow, "slow_share": modes.slow_share}
        found.append(Caveat("two-speeds", {**values}))
    if rec.measurement.stop == "plateau":
        asked = rec.measurement.precision_asked or 0.0
        found.append(Caveat("plateau", {"asked": asked}))
    return found


def _device(seen: Telemetry, kind: Kind) -> list[Caveat]:
    """Whether the device was its own master."""
    found = []
    slowed = telemetry.slowdowns(seen.samples)
    if slowed:
        found.append(Caveat("throttled", {**slowed}))
    clock = telemetry.spread(seen.samples, lambda s: s.clock_hz)
    power = telemetry.spread(seen.samples, lambda s: s.power_w)
    if clock and power and seen.max_clock_hz and seen.power_limit_w:
        low = clock.median < LOW_CLOCK * seen.max_clock_hz
        if low and power.median < BELOW_LIMIT * seen.power_limit_w:
            values = {"clock_hz": clock.median, "max_clock_hz": seen.max_clock_hz}
            found.append(Caveat("low-clock", {**values}))
    change = clock_change(seen, kind)
    if change is not None and abs(change) > CLOCK_DRIFT:
        found.append(Caveat("clock-drift", {"change": change}))
    processes = telemetry.spread(seen.samples, lambda s: s.processes)
    if processes and processes.high > 1:
        found.append(Caveat("shared-device", {"others": round(processes.high) - 1}))
    used = seen.energy.mean_w
    if used is not None and power is not None:
        sampled = statistics.fmean(s.power_w for s in seen.samples if s.power_w is not None)
        if abs(used / sampled - 1) > ENERGY_DISAGREES:
            found.append(Caveat("energy-disagrees", {"counter_w": used, "sampled_w": sampled}))
    return found


def _host(seen: Telemetry) -> list[Caveat]:
    """Whether the machine was its own."""
    disturbed = telemetry.disturbances(seen.host)
    return [Caveat("disturbed", {**disturbed})] if disturbed else []
