"""Pairs enough for a verdict: how many, how large, when to look, and when not to believe it.

Beside each pair of base and new runs one of the base with itself, the control. What it shows is
noise: a change below twice of that is none, and a control that shows a change voids the whole.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from gptbench import comparison, ranks, turns, verdict
from gptbench.comparison import Change, Control
from gptbench.process import Progress, quiet
from gptbench.turns import Pair, Size, Start, Warmup
from gptbench.units import duration, percent, seconds
from gptbench.verdict import ALPHA, LOOKS, Verdict

# From the most that a pair measures to the least: more pairs say more than larger ones. Of as many
# steps, short visits in many quads scatter half as much as long ones in few where something else
# comes and goes on the machine, because less of it falls between a visit and its partner.
SIZES = (Size(32, 2), Size(16, 2), Size(8, 2), Size(4, 2), Size(2, 2), Size(2, 1), Size(1, 1))

LEVEL = ALPHA / LOOKS

MOST_STEPS = 1000

# What a time that is advised has over what it is reckoned at: processes start as they start.
MARGIN = 1.25

# So many times the time that there was is no advice any more.
HOPELESS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a contest may take and what it is judged by.

    `least_visit_s` is how long a visit lasts at the least, where steps are short: on a GPU until
    its clock has settled. `log_tokens` is the logarithm of the tokens of a step of new over base.
    """

    threshold: float
    pairs: int = 7
    time_s: float = 60.0
    control: bool = True
    warmup: Warmup
    least_visit_s: float
    log_tokens: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the pairs came to. `change` is None where there was no time for any."""

    pairs: tuple[Pair, ...]
    verdict: Verdict
    reason: str
    change: Change | None
    least_change: float
    control: Control | None
    notes: tuple[str, ...]
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class _Plan:
    size: Size
    control: bool
    round_s: float


def run(
    start: Start,
    rules: Rules,
    random: Random,
    progress: Progress = quiet,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Measure pairs until the verdict stands, or the last look or the time is over.

    At least the first look is taken once it has begun. Raises QuestionError for too few pairs,
    and whatever the contenders raise.
    """
    looks = verdict.looks(rules.pairs)
    began = clock()
    progress("starting both", 0.0)
    step_s = turns.rehearsed(start, rules.warmup, random)
    plan = planned(rules, step_s, start_up_s=clock() - began)
    if plan is None:
        return _hopeless(rules, step_s, clock() - began)
    pairs: list[Pair] = []
    control: list[Pair] = []
    late = False
    for look in looks:
        late = bool(pairs) and clock() - began + (look - len(pairs)) * plan.round_s > rules.time_s
        if late:
            break
        while len(pairs) < look:
            progress(f"pair {len(pairs) + 1} of {look}", (look - len(pairs)) * plan.round_s)
            for held_to_itself in _order(plan, random):
                arms: tuple[turns.Arm, turns.Arm] = ("base", "base" if held_to_itself else "new")
                pair = turns.measured(start, arms, plan.size, rules.warmup, random)
                (control if held_to_itself else pairs).append(pair)
        outcome = judged(pairs, control, rules)
        if outcome.verdict != "INCONCLUSIVE":
            break
    return _told(outcome, plan, late=late, rules=rules, elapsed_s=clock() - began)


def _order(plan: _Plan, random: Random) -> list[bool]:
    """The pairs of a round: whether each is the control."""
    order = [False, True] if plan.control else [False]
    random.shuffle(order)
    return order


def planned(rules: Rules, step_s: float, start_up_s: float) -> _Plan | None:
    """The size with which as many looks as can be are in time, with a control if that can be.

    None where not even the first look is in time.
    """
    left_s = rules.time_s - start_up_s
    for control in (True, False) if rules.control else (False,):
        for look in reversed(verdict.looks(rules.pairs)):
            for size in (_lasting(s, rules, step_s) for s in SIZES):
                round_s = (start_up_s + size.steps_in_all * step_s) * (2 if control else 1)
                if look * round_s <= left_s:
                    return _Plan(size, control, round_s)
    return None


def _lasting(size: Size, rules: Rules, step_s: float) -> Size:
    """The size with as many steps a visit as make it last."""
    enough = min(MOST_STEPS, math.ceil(rules.least_visit_s / step_s))
    return Size(size.quads, max(size.steps, enough))


def judged(pairs: Sequence[Pair], control: Sequence[Pair], rules: Rules) -> Outcome:
    """The verdict at one look."""
    noise = _control(control, rules) if control else None
    # Below six pairs an interval has no end, and a floor is none.
    known = noise is not None and math.isfinite(noise.floor)
    delta = max(rules.threshold, 2 * noise.floor) if noise and known else rules.threshold
    units = [pair.effect - rules.log_tokens for pair in pairs]
    shift = ranks.signed_rank(units)
    word = verdict.decide(shift, delta, LEVEL, LEVEL)
    method = f"{len(units)} pairs of processes in turns"
    change = comparison.judged(shift, method=method, level=LEVEL, units=units)
    reason = comparison.why(word, change, delta)
    if word == "SAME" and verdict.decide(shift, rules.threshold, LEVEL, LEVEL) != "SAME":
        # Noise must not make two things the same that the person would tell apart.
        word = "INCONCLUSIVE"
        reason = f"{reason}, but not one of {percent(rules.threshold)}"
    if noise is not None and noise.verdict in ("REGRESSED", "IMPROVED"):
        word = "INCONCLUSIVE"
        shown = percent(comparison.in_rate(noise.change.log_ratio))
        reason = f"the base held to itself changed by {shown}: the machine is too unsteady now"
    return Outcome(
        pairs=tuple(pairs),
        verdict=word,
        reason=reason,
        change=change,
        least_change=delta,
        control=noise,
        notes=(),
        elapsed_s=0.0,
    )


def _control(pairs: Sequence[Pair], rules: Rules) -> Control:
    shift = ranks.signed_rank([pair.effect for pair in pairs])
    method = f"{len(pairs)} pairs of the base with itself"
    units = [pair.effect for pair in pairs]
    change = comparison.judged(shift, method=method, level=ALPHA, units=units)
    return Control(
        change=change,
        verdict=verdict.decide(shift, rules.threshold, LEVEL, LEVEL),
        floor=math.expm1((change.high - change.low) / 2),
    )


def _told(outcome: Outcome, plan: _Plan, *, late: bool, rules: Rules, elapsed_s: float) -> Outcome:
    """The outcome with what a reader must know of how it was come by."""
    size, notes, reason = plan.size, [], outcome.reason
    notes.append(
        f"{len(outcome.pairs)} pairs of fresh processes, {size.quads} quads ABBA a pair, "
        f"{size.steps} steps a visit after one that is not counted."
    )
    control = outcome.control
    if control is None:
        why = "No control was asked for"
        if rules.control:
            twice = math.ceil(2 * MARGIN * elapsed_s)
            why = f"There was no time for a control (--time {twice}s would leave some)"
            reason += ", without a control"
        notes.append(f"{why}: how noisy this run was is not known.")
    elif outcome.least_change > rules.threshold:
        notes.append(
            f"The base held to itself is sure to ±{percent(control.floor)} only, so that no change "
            f"under {percent(outcome.least_change)}, twice of it, counts in this run."
        )
    if late and outcome.change is not None:
        times = _shortage(outcome.change, outcome.least_change)
        enough = f"about {duration(elapsed_s * times)} might do (--time)"
        if times > HOPELESS:
            enough = "on so unsteady a machine no time would do"
        reason += f"; the time ran out after {len(outcome.pairs)} pairs, and {enough}"
    return replace(outcome, reason=reason, notes=tuple(notes), elapsed_s=elapsed_s)


def _shortage(change: Change, delta: float) -> float:
    """How many times more pairs make the interval narrow enough: its width goes with 1 / √n."""
    return max(2.0, ((change.high - change.low) / 2 / math.log1p(delta)) ** 2)


def _hopeless(rules: Rules, step_s: float, elapsed_s: float) -> Outcome:
    least = _lasting(SIZES[-1], rules, step_s)
    needed_s = elapsed_s + rules.pairs * (elapsed_s + least.steps_in_all * step_s)
    reason = (
        f"a step takes {seconds(step_s)} and starting both {seconds(elapsed_s)}, so that "
        f"{rules.pairs} pairs need about {seconds(needed_s)}. Type --time {math.ceil(MARGIN * needed_s)}s"
    )
    return Outcome(
        pairs=(),
        verdict="INCONCLUSIVE",
        reason=reason,
        change=None,
        least_change=rules.threshold,
        control=None,
        notes=(),
        elapsed_s=elapsed_s,
    )
