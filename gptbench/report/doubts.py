"""The sentences for what `trust` finds: what disturbed a measurement, and what to do about it."""

from collections.abc import Callable, Mapping
from typing import Any

from gptbench.units import percent, seconds, si

# The numbers of a caveat, by the keys that its code has.
Values = Mapping[str, Any]


def _timing_inconsistent(values: Values) -> str:
    return (
        f"The wall clock and the device's own differ by {percent(values['share'])} of the window: "
        "some work ran where it was not timed, or was not waited for. Do not use the numbers; a "
        "step has to end on the stream it began on."
    )


def _host_bound(values: Values) -> str:
    return (
        f"The GPU is done {percent(max(0.0, values['ahead']))} of a step after it was given one: it "
        "waits for Python, and the MFU is that of launching kernels. Type --compile, or a larger "
        "batch."
    )


def _recompiling(values: Values) -> str:
    return (
        f"torch.compile compiled {values['times']} times among the timed steps, which were begun "
        "anew three times for it: their time is not that of steps. Leave --compile out, or see "
        "which shapes change with TORCH_LOGS=recompiles."
    )


def _marginal_memory(values: Values) -> str:
    times = "once" if values["times"] == 1 else f"{values['times']} times"
    return (
        f"The GPU's memory was all but full: its allocator gave memory back and asked again {times}, "
        "which steps wait for. Type a smaller --batch-size."
    )


def _garbage_tensors(_values: Values) -> str:
    return (
        "A step leaves tensors in reference cycles, which only Python's collector gives back: it ran "
        "among the timed steps, as in a training, and its pauses are in their times. Let the module "
        "keep no tensor in an object that refers to itself."
    )


def _drift(values: Values) -> str:
    way = "slower" if values["change"] > 0 else "faster"
    return (
        f"Steps became {percent(abs(values['change']))} {way} over the window, so that no number "
        "speaks for all of it. Measure for longer, such as --time 60s, on a machine that does "
        "nothing else."
    )


def _two_speeds(values: Values) -> str:
    return (
        f"Steps have two speeds: {percent(values['slow_share'], 0)} of them take "
        f"{seconds(values['slow_s'])}, the others {seconds(values['fast_s'])}. The median is the "
        "one of most steps; quote the rate of the whole window, and look for what takes turns."
    )


def _plateau(values: Values) -> str:
    return (
        f"More steps no longer make the median surer, and {percent(values['asked'])} was not "
        "reached: the noise is the machine's. Close what else runs on it."
    )


def _throttled(values: Values) -> str:
    reasons = ", ".join(f"{reason} in {percent(share)}" for reason, share in values.items())
    return (
        f"The GPU was slowed down, by samples: {reasons}. Its cooling or its power supply limits "
        "this number. Let it cool, and measure again."
    )


def _low_clock(values: Values) -> str:
    return (
        f"The GPU ran at {si(values['clock_hz'], 'Hz')} of {si(values['max_clock_hz'], 'Hz')}, "
        "below its power limit: something else holds its clock down. Look at "
        "'nvidia-smi -q -d CLOCK,PERFORMANCE'."
    )


def _clock_drift(values: Values) -> str:
    return (
        f"The device's clock changed by {percent(values['change'])} from the first third of the window "
        "to the last. Measure for longer, such as --time 60s."
    )


def _shared_device(values: Values) -> str:
    more = "process" if values["others"] == 1 else "processes"
    return (
        f"{values['others']} other {more} computed on this GPU during the window. End what else "
        "uses it, and measure again."
    )


def _energy_disagrees(values: Values) -> str:
    return (
        f"The energy counter says {values['counter_w']:.0f} W and the power that was sampled "
        f"{values['sampled_w']:.0f} W. The energy shown is the counter's; take it with that doubt."
    )


DISTURBANCES = {
    "others_cores": "other processes kept {:.1f} cores busy",
    "pressure": "a process waited for a core in {:.0%} of the window",
    "stolen": "the hypervisor gave {:.0%} of the time away",
    "throttled_periods": "a CPU quota stopped the process in {:.0f} periods",
    "switches_per_s": "each thread was interrupted {:.0f} times a second",
    "major_faults": "{:.0f} pages were read from disk",
}


def _disturbed(values: Values) -> str:
    found = ", ".join(DISTURBANCES[key].format(value) for key, value in values.items())
    return f"The machine was not quiet: {found}. Close what else runs on it, and measure again."


SENTENCES: Mapping[str, Callable[[Values], str]] = {
    "timing-inconsistent": _timing_inconsistent,
    "host-bound": _host_bound,
    "recompiling": _recompiling,
    "marginal-memory": _marginal_memory,
    "garbage-tensors": _garbage_tensors,
    "drift": _drift,
    "two-speeds": _two_speeds,
    "plateau": _plateau,
    "throttled": _throttled,
    "low-clock": _low_clock,
    "clock-drift": _clock_drift,
    "shared-device": _shared_device,
    "energy-disagrees": _energy_disagrees,
    "disturbed": _disturbed,
}
