"""Every check of a measurement as a row: what was found, what is allowed, what to do about it.

`metrics` and `waterfall` find what is to be known and call it a caveat; here each caveat stands
under the check that it failed, beside the checks that passed and those that could not be made.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from gptbench import series, telemetry, trust
from gptbench.comparison import Comparison, Control
from gptbench.metrics import FEW_STEPS, STALL_RATIO, Metrics
from gptbench.profiling import Profile
from gptbench.record import Record
from gptbench.report import caveats, comparisons
from gptbench.report.table import DASH, Column, Table
from gptbench.telemetry import Telemetry
from gptbench.trust import Caveat
from gptbench.units import percent, seconds, si
from gptbench.waterfall import MISMATCH, NEGATIVE_SHARE, UNEXPLAINED_SHARE, Waterfall

Outcome = Literal["read", "unknown", "passed"]

WORDS: dict[Outcome, str] = {"read": "! read", "unknown": "? not made", "passed": "✓ passed"}


@dataclass(frozen=True, slots=True)
class Check:
    """A check with what was found and what is allowed; `advice` are the sentences where it failed."""

    name: str
    outcome: Outcome
    found: str
    limit: str
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A check before its outcome is known: `codes` are those of the caveats that fail it.

    `found` is None where it could not be made, and `limit` then says why.
    """

    name: str
    codes: tuple[str, ...]
    found: str | None
    limit: str


def of_record(rec: Record, found: Metrics) -> tuple[Check, ...]:
    """The checks of a result, those first that need to be read."""
    asked = (*_of_numbers(rec, found), *_of_steps(rec, found), *_of_device(rec))
    return _judged(asked, found.caveats)


def of_comparison(found: Comparison) -> tuple[Check, ...]:
    """The checks of a comparison, those first that need to be read."""
    rows = found.rows
    made = [_of_controls([row.control for row in rows if row.control])]
    few = [row for row in rows if row.change and not math.isfinite(row.change.high)]
    why = f"{len(few)} of {len(rows)} benchmarks have too few values for an interval."
    made.append(
        _plain("enough values", not few, f"{len(rows) - len(few)} of {len(rows)}", "all", why)
    )
    odd = [row for row in rows if row.verdict in ("INCOMPARABLE", "FAILED")]
    why = f"{len(odd)} of {len(rows)} benchmarks failed or do not compare; the table says why."
    made.append(_plain("comparable", not odd, f"{len(rows) - len(odd)} of {len(rows)}", "all", why))
    return _sorted(made)


def _of_controls(controls: Sequence[Control]) -> Check:
    """Whether the base, held to itself in the same run, is what it is."""
    name = "the base held to itself"
    if not controls:
        return Check(name, "unknown", DASH, "no control was measured")
    moved = [control for control in controls if control.verdict in ("REGRESSED", "IMPROVED")]
    shown = str(comparisons.changed((moved or controls)[0].change))
    if len(controls) > 1:
        shown = f"{len(moved)} of {len(controls)} changed"
    why = "The base held to itself changed: the machine is too unsteady for a verdict beside it."
    return _plain(name, not moved, shown, "no change", why)


def _plain(name: str, passed: bool, found: str, limit: str, why: str) -> Check:
    return Check(name, "passed" if passed else "read", found, limit, () if passed else (why,))


def of_profile(profile: Profile, derived: Waterfall) -> tuple[Check, ...]:
    """The checks of a profile, those first that need to be read."""
    return _judged(tuple(_of_profile(profile, derived)), derived.caveats)


def said(checks: Sequence[Check]) -> str:
    """What came of all checks, as a sentence."""
    counts = {o: sum(check.outcome == o for check in checks) for o in WORDS}
    if counts["passed"] == len(checks):
        return f"All {len(checks)} checks passed."
    parts = [f"{counts['passed']} passed"]
    parts += [f"{counts['unknown']} could not be made"] if counts["unknown"] else []
    parts += [f"{counts['read']} to read"] if counts["read"] else []
    return f"Of {len(checks)} checks {', '.join(parts)}."


def table(checks: Sequence[Check]) -> Table:
    """Every check as a row."""
    return Table(
        title="Every check",
        columns=(
            Column("check"),
            Column("outcome"),
            Column("found", wraps=True),
            Column("allowed", wraps=True),
        ),
        rows=tuple((c.name, WORDS[c.outcome], c.found, c.limit) for c in checks),
    )


def _judged(asked: Sequence[_Asked], known: Sequence[Caveat]) -> tuple[Check, ...]:
    """Each check with its outcome; a caveat that no check is for is one of its own."""
    checked = {code for check in asked for code in check.codes}
    others = [_Asked(c.code, (c.code,), DASH, DASH) for c in known if c.code not in checked]
    found = [_outcome(check, known) for check in (*asked, *others)]
    return _sorted(found)


def _sorted(found: Sequence[Check]) -> tuple[Check, ...]:
    order = list(WORDS)
    return tuple(sorted(found, key=lambda check: order.index(check.outcome)))


def _outcome(check: _Asked, known: Sequence[Caveat]) -> Check:
    advice = tuple(caveats.sentence(caveat) for caveat in known if caveat.code in check.codes)
    seen = DASH if check.found is None else check.found
    if advice:
        return Check(check.name, "read", seen, check.limit, advice)
    outcome: Outcome = "unknown" if check.found is None else "passed"
    return Check(check.name, outcome, seen, check.limit)


def _of_numbers(rec: Record, found: Metrics) -> Iterator[_Asked]:
    """Whether what the result is held to is right."""
    origin = {"table": "of a datasheet", "stated": "as stated with --peak", "measured": "measured"}
    yield _Asked(
        "peak",
        ("peak-unknown", "peak-measured"),
        origin.get(rec.device.peak_origin),
        "that of a datasheet, or one that is stated, for this device and dtype",
    )
    yield _Asked(
        "MFU is possible",
        ("over-stated-clock", "over-peak", "over-achievable"),
        None if found.mfu is None else percent(found.mfu),
        "at most 100%" if found.mfu is not None else "without a peak there is none",
    )
    if rec.traced is not None:
        unknown = len(rec.traced.uncounted)
        known = "uncounted", "early-stop"
        yield _Asked("every operator is counted", known, f"{unknown} unknown", "none unknown")


def _of_steps(rec: Record, found: Metrics) -> Iterator[_Asked]:
    """Whether the steps are enough, and alike."""
    taken, n = rec.measurement, found.step_time_s.n
    times = [ns / 1e9 for ns in taken.step_ns]
    yield _Asked("enough steps", ("few-steps",), f"{n}", f"at least {FEW_STEPS}")
    asked = taken.precision_asked
    yield _Asked(
        "precision",
        ("plateau",),
        None if found.precision is None else f"±{percent(found.precision)}",
        f"±{percent(asked)}, as asked for" if asked else "none was asked for",
    )
    share = trust.DRIFT[rec.device.kind]
    trend = series.trend(times)
    yield _Asked(
        "steady",
        ("drift",),
        f"{percent(trend.change)} over the window, |Z| {abs(trend.z):.2f}",
        f"±{percent(share)}, or |Z| up to {series.SIGNIFICANT_Z:.2f}, as chance makes it",
    )
    enough = n >= series.FEWEST_FOR_MODES
    two = any(caveat.code == "two-speeds" for caveat in found.caveats)
    yield _Asked(
        "one speed",
        ("two-speeds",),
        ("two" if two else "one") if enough else None,
        "one" if enough else f"of fewer steps than {series.FEWEST_FOR_MODES} nobody can tell",
    )
    most = percent(1 - 1 / STALL_RATIO)
    yield _Asked("no stalls", ("stalls",), percent(found.stall_share), f"{most} of the time")
    severe = found.outliers_severe
    yield _Asked("no severe outliers", ("outliers",), f"{severe} of {n}", "none")
    if taken.recompiled is not None:
        yield _Asked("compiled before", ("recompiling",), f"{taken.recompiled} times", "never")
    if taken.collector_held is not None:
        held = "held" if taken.collector_held else "ran"
        yield _Asked("Python's garbage collector", ("garbage-tensors",), held, "held")


def _of_device(rec: Record) -> Iterator[_Asked]:
    """Whether the device was timed right, and was its own master."""
    taken, seen = rec.measurement, rec.telemetry
    if rec.device.kind == "cuda":
        ahead = trust.run_ahead(taken)
        beyond = percent(trust.unaccounted_ns(taken) / taken.window_ns) if taken.handed_ns else None
        none = "the record does not tell"
        limit = none if beyond is None else _accounted()
        yield _Asked("all time is accounted for", ("timing-inconsistent",), beyond, limit)
        yield _Asked(
            "the host is ahead",
            ("host-bound",),
            None if ahead is None else f"by {percent(ahead)} of a step",
            none if ahead is None else f"by at least {percent(trust.RUN_AHEAD)}",
        )
        retries = f"asked again {taken.alloc_retries} times"
        yield _Asked("memory to spare", ("marginal-memory",), retries, "never")
    if seen is None:
        yield _Asked("clock and quiet", (), None, "nobody watched: an older record")
        return
    change = trust.clock_change(seen, rec.device.kind)
    yield _Asked(
        "steady clock",
        ("throttled", "low-clock", "clock-drift"),
        None if change is None else f"changed by {percent(change)}",
        _no_clock(seen)
        if change is None
        else f"±{percent(trust.CLOCK_DRIFT)}, and never held down",
    )
    others = telemetry.others_cores(seen.host)
    yield _Asked(
        "a quiet machine",
        ("disturbed", "shared-device"),
        None if others is None else f"others used {others:.2f} cores",
        "the system does not tell" if others is None else "nothing that a step waits for",
    )
    if seen.energy.joules is not None:
        agrees = f"within {percent(trust.ENERGY_DISAGREES, 0)} of the power that was sampled"
        yield _Asked("energy", ("energy-disagrees",), seen.energy.source or "counted", agrees)


def _accounted() -> str:
    wait = seconds(trust.WAIT_NS / 1e9)
    return f"{percent(trust.UNACCOUNTED)} of the window, or {wait} for each wait if that is more"


def _no_clock(seen: Telemetry) -> str:
    """Why nobody can tell how the clock of the steps changed."""
    if telemetry.clock_change(seen.samples) is None:
        return seen.missing.get("samples", "too few samples")
    return "not all cores were at work, and an idle one's clock says nothing"


def _of_profile(profile: Profile, derived: Waterfall) -> Iterator[_Asked]:
    yield _Asked(
        "everything is explained",
        ("unexplained",),
        f"{percent(derived.unexplained)} is not",
        f"{percent(UNEXPLAINED_SHARE, 0)} of the step",
    )
    yield _Asked(
        "the profiler's own time",
        ("profile-mismatch",),
        percent(derived.overhead),
        f"±{percent(MISMATCH, 0)} of the step",
    )
    negative = sum(caveat.code == "negative-part" for caveat in derived.caveats)
    yield _Asked(
        "no part below zero",
        ("negative-part",),
        f"{negative} are",
        f"none by over {percent(NEGATIVE_SHARE, 2)} of the step",
    )
    peak = profile.device.peak_flops_per_s
    yield _Asked(
        "peak",
        ("peak-unknown",),
        None if peak is None else si(peak, "FLOP/s"),
        profile.device.peak_source,
    )
    timed = [p for p in derived.products if p.alone_ns is not None]
    yield _Asked(
        "products by themselves",
        ("slower-alone",),
        f"{len(timed)} of {len(derived.products)} shapes" if timed else None,
        "no slower than in the step" if timed else "none was timed",
    )
    yield _Asked("all FLOPs are seen", ("flops-unseen",), "compared", "those of the model")
    seen = profile.profiled
    if seen.telemetry is not None:
        others = telemetry.others_cores(seen.telemetry.host)
        yield _Asked(
            "a quiet machine",
            ("disturbed", "shared-device"),
            None if others is None else f"others used {others:.2f} cores",
            "the system does not tell" if others is None else "nothing that a step waits for",
        )
        held = telemetry.slowdowns(seen.telemetry.samples)
        yield _Asked(
            "the clock is its own", ("throttled",), ", ".join(held) or "yes", "never held down"
        )
    if profile.device.kind == "cuda":
        lost = f"{seen.dropped} of {seen.launches} lost"
        yield _Asked("no kernel is lost", ("dropped-records",), lost, "none")
