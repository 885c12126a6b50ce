"""The sentences for what makes a profile doubtful, and what to do about it."""

from collections.abc import Callable

from gptbench.report.doubts import Values
from gptbench.units import grouped, percent


def _negative_part(values: Values) -> str:
    return (
        f"The part {values['part']!r} is {percent(values['share'])} below zero: the step was "
        "faster than its peak allows. The FLOPs or the peak are wrong, or the machine was slower "
        "while the peak was measured; measure again on a quiet one."
    )


def _mismatch(values: Values) -> str:
    more = "more" if values["overhead"] > 0 else "less"
    return (
        f"Steps took {percent(abs(values['overhead']))} {more} time with the profiler than "
        "without. The parts are scaled to the step without it; on a quiet machine they need less "
        "of that."
    )


def _slower_alone(values: Values) -> str:
    return (
        f"Products that take {percent(values['share'])} of the products' time were slower by "
        "themselves than in the step, so that nothing is known of what they lose in it: something "
        "else ran while they were timed. Measure again on a quiet machine."
    )


def _dropped(values: Values) -> str:
    return (
        f"The profiler lost {values['dropped']} of {values['launches']} kernels: their time is "
        "counted as idle. Profile fewer steps with --steps, or a smaller model."
    )


def _unseen(values: Values) -> str:
    return (
        f"The profiler saw products of {grouped(int(values['seen']))} model FLOPs, and the model "
        f"has {grouped(int(values['model']))}. Compiled code hides some of them: their time is in "
        "the parts of matrix products, but not in the table of shapes."
    )


def _unexplained(values: Values) -> str:
    return (
        f"{percent(values['share'])} of the step went into operators of no known class, most of it "
        f"into {values['operator']!r}. Nothing says what they should take."
    )


SENTENCES: dict[str, Callable[[Values], str]] = {
    "negative-part": _negative_part,
    "profile-mismatch": _mismatch,
    "slower-alone": _slower_alone,
    "dropped-records": _dropped,
    "flops-unseen": _unseen,
    "unexplained": _unexplained,
}
