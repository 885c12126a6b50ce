"""The table of `gptbench mfu`, and a sentence for everything that can be wrong with its numbers."""

from gptbench.published import Answer
from gptbench.report import caveats
from gptbench.report.results import rate
from gptbench.report.table import Cell, Column, Quantity, Table, scaled, share
from gptbench.trust import Caveat
from gptbench.units import duration, percent, si
from gptbench.utilization import Reading, Setting

# Longer sequences than these are read, and seldom trained with.
LONG = 8192

RECOMPUTED = {
    "none": "HFU is the MFU: nothing is said to be computed again.",
    "attention": "HFU adds the scores and values of attention, computed again.",
    "block": "HFU adds the forward pass of every layer, computed again; llm_foundry the head's too.",
}


def table(found: Answer) -> Table:
    """The run under every convention: its utilization, or the throughput that one amounts to."""
    setting, model = found.setting, found.setting.model.name
    gpus = f"{setting.n_gpus} × {setting.judge.name}"
    if found.claimed_mfu is None:
        title = f"{model}, {rate(found.exact.tokens_per_s)} tokens/s on {gpus}"
        columns, row = _USE, _use
    else:
        title = f"{model}, an MFU of {percent(found.claimed_mfu)} on {gpus}"
        columns, row = (_SPEED if found.tokens is None else _SPEED + _TIME), _speed
    return Table(
        title=title,
        columns=(Column("convention"), Column("FLOPs per token", right=True), *columns),
        rows=tuple(
            (r.convention.key, scaled(r.flops_per_token), *row(found, r)) for r in found.readings
        ),
        notes=_notes(found),
    )


_USE = tuple(Column(name, right=True) for name in ("FLOP/s per GPU", "MFU", "HFU"))
_SPEED = tuple(Column(name, right=True) for name in ("tokens/s", "HFU"))
_TIME = (Column("time", right=True, unit="s"), Column("GPU-hours", right=True))


def _use(_found: Answer, reading: Reading, /) -> tuple[Cell, ...]:
    return (scaled(reading.model_flops_per_s), share(reading.mfu), share(reading.hfu))


def _speed(found: Answer, reading: Reading, /) -> tuple[Cell, ...]:
    speed = (Quantity(reading.tokens_per_s, rate(reading.tokens_per_s)), share(reading.hfu))
    time_s, gpu_hours = found.time_s(reading), found.gpu_hours(reading)
    if time_s is None or gpu_hours is None:
        return speed
    return (*speed, Quantity(time_s, duration(time_s)), Quantity(gpu_hours, rate(gpu_hours)))


def _notes(found: Answer) -> tuple[str, ...]:
    setting, by = found.setting, found.setting.judge
    peak = f"{si(by.peak_flops_per_s, 'FLOP/s')} {by.dtype}"
    time_s, gpu_hours = found.time_s(found.exact), found.gpu_hours(found.exact)
    timed: tuple[str, ...] = ()
    if found.claimed_mfu is None and found.tokens and time_s and gpu_hours:
        # The same in every convention, which the time of a claimed MFU is not.
        read = f"{rate(found.tokens)} tokens take {duration(time_s)}"
        timed = (f"{read}: {rate(gpu_hours)} GPU-hours.",)
    return (
        *timed,
        f"Peak of one GPU: {peak} ({by.peak_source.rstrip('.')}).",
        f"{setting.seq_len} tokens a sequence{_context(setting)}; tokens/s are of all GPUs together.",
        RECOMPUTED[setting.recompute],
        "'gptbench flops MODEL --conventions' shows the formulas.",
    )


def sentence(caveat: Caveat) -> str:
    """A diagnosis for a person: what would explain the number, and what to type instead."""
    values = caveat.values
    use = percent(float(values["use"])) if "use" in values else ""
    match caveat:
        case Caveat("sparse-peak", {"typed": typed, "dense": dense, "gpu": gpu}):
            text = (
                f"--peak {_rate(typed)} is twice the dense peak of {gpu}, {_rate(dense)}: it is "
                f"the one for sparse matrices. {_without_peak(values)}"
            )
        case Caveat("halved-peak", {"typed": typed, "dense": dense, "gpu": gpu}):
            text = (
                f"--peak {_rate(typed)} is half of the peak of {gpu}, {_rate(dense)}, which is "
                f"dense already. {_without_peak(values)}"
            )
        case Caveat("other-dtype-typed", {"typed": typed, "dtype": dtype, "used": used}):
            text = (
                f"--peak {_rate(typed)} is the {dtype} peak of {values['gpu']}, and the dtype is "
                f"{used}. Type --dtype {dtype} if the matrix products ran in it, or leave --peak "
                "out."
            )
        case Caveat("recompute"):
            text = (
                f"Without what is computed again the use is {use}, which can be. Leave --recompute "
                "out, or lower it."
            )
        case Caveat("other-dtype", {"dtype": dtype, "peak": peak}):
            text = (
                f"Against the {dtype} peak of {_rate(peak)} the use would be {use}. If the matrix "
                f"products ran in {dtype}, type --dtype {dtype} and leave --peak out."
            )
        case Caveat("all-gpus", {"n_gpus": n_gpus, "counted": counted}):
            few = "one GPU" if counted == 1 else f"{counted} GPUs"
            text = (
                f"On {n_gpus} GPUs the use would be {use}. If the tokens/s are not of {few} but of "
                f"a larger run, type --n-gpus {n_gpus}, or how many it had."
            )
        case Caveat("multiply-adds"):
            text = f"Half of it, {use}, would be plausible. {_halved(caveat)}"
        case Caveat("per-gpu", {"n_gpus": n_gpus, "tokens_per_s": tokens_per_s}):
            text = (
                f"As the tokens of one GPU they would be a use of {use}. If the tokens/s are of "
                f"one of the {n_gpus} GPUs, type --tokens-per-s {_whole(tokens_per_s)}."
            )
        case Caveat("unexplained"):
            text = (
                "No single slip explains it. Look at the model, at --seq-len and at whose tokens/s "
                "these are."
            )
        case _:
            text = caveats.sentence(caveat)
    return text


def _halved(caveat: Caveat) -> str:
    """Where a factor of two may come from, and what to type for each."""
    text = (
        "A multiply-add is 2 FLOPs here: if the tokens/s were worked out from FLOPs that count it "
        f"as 1, type --tokens-per-s {_whole(caveat.values['tokens_per_s'])}"
    )
    if "peak" in caveat.values:
        text += f"; if the peak is of multiply-adds, type --peak {_rate(caveat.values['peak'])}"
    return f"{text}."


def _rate(flops_per_s: float | str) -> str:
    """A rate as --peak takes it: '312TFLOP/s'."""
    return f"{float(flops_per_s) / 1e12:.6g}TFLOP/s"


def _whole(count: float | str) -> str:
    """A count as --tokens-per-s takes it."""
    return f"{float(count):.0f}"


def _without_peak(values: dict[str, float | int | str]) -> str:
    use = float(values["use"])
    if use > 1:
        return f"By the GPU's own the use is {percent(use)}, which cannot be either."
    return f"Leave --peak out, and the use is {percent(use)}."


def _context(setting: Setting) -> str:
    """A hint where attention weighs by a length that few train with."""
    if setting.seq_len < setting.model.n_ctx or setting.seq_len <= LONG:
        return ""
    return ", the whole context (type --seq-len for what was trained with)"
