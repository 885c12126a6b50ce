"""Every sentence of warning: what the matter is, with its numbers, then what to do about it."""

from gptbench.metrics import FEW_STEPS, Caveat
from gptbench.units import grouped, percent

CODES = (
    "peak-unknown",
    "peak-measured",
    "over-stated-clock",
    "over-peak",
    "over-achievable",
    "stalls",
    "outliers",
    "early-stop",
    "few-steps",
    "negative-part",
    "profile-mismatch",
    "slower-alone",
    "dropped-records",
    "flops-unseen",
    "unexplained",
)


def sentence(caveat: Caveat) -> str:
    """The caveat for a person. Raises ValueError for a code that has no sentence."""
    match caveat:
        case Caveat("peak-unknown", {"reason": reason}):
            text = (
                f"No MFU, because no peak is known: {str(reason).rstrip('.')}. State the dense "
                "one with --peak, such as --peak 125TFLOP/s."
            )
        case Caveat("peak-measured", {"device": device}):
            text = (
                f"The peak is the best matrix-product rate measured on this {device}, not a "
                "datasheet's: the MFU says how much of what is achievable here was achieved. "
                "To judge by a datasheet, type --peak with its rate."
            )
        case Caveat("over-stated-clock", {"mfu": mfu, "device": device}):
            text = (
                f"An MFU of {percent(float(mfu))} is over 100% because {device} runs above the "
                "clock its peak is stated for. Take it as full use of the card; for an exact "
                "figure, type --peak with the rate at the clock it holds."
            )
        case Caveat("over-peak", {"mfu": mfu, "device": device}):
            text = (
                f"An MFU of {percent(float(mfu))} is impossible: the peak is not the one of this "
                f"{device}, or the time is wrong. Do not use the number; look at 'gptbench gpus' "
                "and state the peak with --peak."
            )
        case Caveat("over-achievable", {"share": share, "source": source}):
            text = (
                f"The model did {percent(float(share))} of what is called achievable "
                f"({source}): the device was slower then than now, and that share says nothing. "
                "Type 'gptbench calibrate --fresh' on an idle device and measure again."
            )
        case Caveat("stalls", {"share": share}):
            text = (
                f"Slow steps took {percent(float(share))} of the time: the window's tokens/s and "
                "MFU are that much below the median step's. Close what else runs on the machine "
                "and measure again, or quote the median as the speed without stalls."
            )
        case Caveat("outliers", {"severe": severe, "steps": steps}):
            text = (
                f"{severe} of {steps} steps are severe outliers, slower than the third quartile "
                "by over three interquartile ranges. They are kept in every number; if there are "
                "many, measure again on a quieter machine."
            )
        case Caveat("early-stop", {"flops": skipped, "hfu": hfu}):
            text = (
                "HFU counts what is recomputed whole, as papers do. PyTorch's checkpoint leaves "
                f"out the last product of each part, {grouped(int(skipped))} FLOPs a step, which "
                f"nothing needs: what really ran is {percent(float(hfu))} of the peak. Compare "
                "either with its like."
            )
        case Caveat("few-steps", {"steps": steps}):
            text = (
                f"Only {steps} steps were timed, too few for an interval to be trusted. Type "
                f"--steps {FEW_STEPS * 3} for one that can be."
            )
        case _:
            return _of_profile(caveat)
    return text


def _of_profile(caveat: Caveat) -> str:
    """The caveat of a profile."""
    match caveat:
        case Caveat("negative-part", {"part": part, "share": share}):
            text = (
                f"The part {str(part)!r} is {percent(float(share))} below zero: the step was faster "
                "than its peak allows. The FLOPs or the peak are wrong, or the machine was slower "
                "while the peak was measured; measure again on a quiet one."
            )
        case Caveat("profile-mismatch", {"overhead": overhead}):
            more = "more" if float(overhead) > 0 else "less"
            text = (
                f"Steps took {percent(abs(float(overhead)))} {more} time with the profiler than "
                "without. The parts are scaled to the step without it; on a quiet machine they "
                "need less of that."
            )
        case Caveat("slower-alone", {"share": share}):
            text = (
                f"Products that take {percent(float(share))} of the products' time were slower by "
                "themselves than in the step, so that nothing is known of what they lose in it: "
                "something else ran while they were timed. Measure again on a quiet machine."
            )
        case Caveat("dropped-records", {"dropped": dropped, "launches": launches}):
            text = (
                f"The profiler lost {dropped} of {launches} kernels: their time is counted as "
                "idle. Profile fewer steps with --steps, or a smaller model."
            )
        case Caveat("flops-unseen", {"seen": seen, "model": model}):
            text = (
                f"The profiler saw products of {grouped(int(seen))} model FLOPs, and the model has "
                f"{grouped(int(model))}. Compiled code hides some of them: their time is in the "
                "parts of matrix products, but not in the table of shapes."
            )
        case Caveat("unexplained", {"share": share, "operator": operator}):
            text = (
                f"{percent(float(share))} of the step went into operators of no known class, most "
                f"of it into {str(operator)!r}. Nothing says what they should take."
            )
        case _:
            raise ValueError(f"no sentence for the caveat {caveat.code!r}")
    return text
