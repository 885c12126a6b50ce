"""What may be said of a change: established, shown to be none, or neither; and of a family of them.

A change is the logarithm of a ratio of times, above zero where the new one is slower. That it is not
established does not make it none: sameness is shown by two one-sided tests (Schuirmann 1987).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

from gptbench.errors import (
    EXIT_DONE,
    EXIT_INCONCLUSIVE,
    EXIT_NOT_COMPARABLE,
    EXIT_REGRESSED,
    EXIT_UNAVAILABLE,
    QuestionError,
)
from gptbench.ranks import Shift, fewest_pairs

Verdict = Literal["FAILED", "REGRESSED", "INCOMPARABLE", "INCONCLUSIVE", "IMPROVED", "SAME"]

# The gravest first: of several verdicts the first of these decides how the process ends.
GRAVEST_FIRST: tuple[Verdict, ...] = get_args(Verdict)

EXITS: dict[Verdict, int] = {
    "FAILED": EXIT_UNAVAILABLE,
    "REGRESSED": EXIT_REGRESSED,
    "INCOMPARABLE": EXIT_NOT_COMPARABLE,
    "INCONCLUSIVE": EXIT_DONE,
    "IMPROVED": EXIT_DONE,
    "SAME": EXIT_DONE,
}

# The chance that is allowed of any false verdict of a change in a family of comparisons.
ALPHA = 0.05

# How often a growing number of pairs is looked at; each look may err a third of ALPHA.
LOOKS = 3


def decide(shift: Shift, delta: float, level: float, equivalence_level: float) -> Verdict:
    """The verdict on a change that matters from the fraction `delta` on.

    A change is established by an interval at `level` beside zero and an estimate of at least
    log(1 + delta); sameness by an interval at twice the `equivalence_level` within ±log(1 + delta).
    """
    least = math.log1p(delta)
    low, high = shift.interval(level)
    if low > 0 and shift.estimate >= least:
        return "REGRESSED"
    if high < 0 and shift.estimate <= -least:
        return "IMPROVED"
    low, high = shift.interval(2 * equivalence_level)
    return "SAME" if -least < low and high < least else "INCONCLUSIVE"


def holm(p_values: Sequence[float], alpha: float = ALPHA) -> tuple[float, ...]:
    """The level of each of a family of comparisons so that any errs with a chance of `alpha`.

    The most certain is judged at alpha over their number, the next at alpha over one fewer, and
    all from the first that fails on at its level (Holm 1979).
    """
    levels = [alpha] * len(p_values)
    failed: float | None = None
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        levels[i] = failed or alpha / (len(p_values) - rank)
        if failed is None and p_values[i] > levels[i]:
            failed = levels[i]
    return tuple(levels)


def looks(pairs: int) -> tuple[int, ...]:
    """Numbers of pairs at which a comparison is looked at: 7, 10 and 14.

    Raises QuestionError for so few that no result of theirs could ever establish a change.
    """
    least = fewest_pairs(ALPHA / LOOKS)
    if pairs < least:
        raise QuestionError(
            f"--pairs {pairs} could never establish a change: a 95% interval needs "
            f"{fewest_pairs(ALPHA)} pairs, and {least} where it is looked at {LOOKS} times. "
            f"Type --pairs {least} or more."
        )
    return pairs, math.ceil(pairs * 10 / 7), 2 * pairs


def exit_code(verdicts: Iterable[Verdict], strict: bool) -> int:
    """How the process ends: by the gravest verdict, never by how many there are."""
    found = set(verdicts)
    gravest: Verdict = next((v for v in GRAVEST_FIRST if v in found), "SAME")
    inconclusive = gravest == "INCONCLUSIVE" and strict
    return EXIT_INCONCLUSIVE if inconclusive else EXITS[gravest]
