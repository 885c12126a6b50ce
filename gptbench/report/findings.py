"""The advice of a profile: what, where, what it would gain, and what to type or to change."""

from collections.abc import Callable, Mapping

from gptbench import findings, whatif
from gptbench.config import ModelConfig
from gptbench.evidence import Finding, Value
from gptbench.profiling import Profile, Trial
from gptbench.report.table import Cell, Column, Quantity, Table
from gptbench.units import gib, grouped, percent, seconds, si
from gptbench.waterfall import Waterfall

Values = Mapping[str, Value]

NOTHING = (
    f"Nothing was found that would save {percent(findings.LEAST)} of the step, by what was timed "
    "here."
)
PREDICTED = (
    "Saves: the predicted share of the step, each change by itself; of the time of a token where "
    "the batch is another. ± is the standard error of what was timed."
)
UNSEEN = (
    "A lower bound (≥) where the cost is more than what was seen: a GPU's queue runs dry behind it."
)
UNTRIED = "--try measures what options change, in turns with the step as it is."
NO_OPTION = "--try has measured nothing: no option changes any of this."
OWN_MODULE = "Only presets are tried: of your own module --try measures nothing."
NOT_TRIED = "code has to change"

BASIS = {
    "timed": "timings alone, both ways",
    "bytes": "bytes at measured bandwidth",
    "seen": "time seen in the step",
}


def table(profile: Profile, waterfall: Waterfall) -> Table:
    """The findings, most gain first; beside each what a trial measured, if there was one."""
    found = findings.ranked(profile, waterfall)
    measured = any(finding.trial for finding in found)
    columns = (
        Column("finding", wraps=True),
        Column("saves", right=True),
        *((Column("measured", right=True), Column("verdict")) if measured else ()),
        Column("predicted by", spare=True),
        Column("change", wraps=True),
    )
    return Table(
        title="What to change, most gain first",
        columns=columns,
        rows=tuple(_row(finding, measured) for finding in found),
        notes=_notes(found, profile),
    )


def _row(finding: Finding, measured: bool) -> tuple[Cell, ...]:
    tried = _tried(finding.trial, finding) if measured else ()
    return what(finding), _saving(finding), *tried, BASIS[finding.basis], how(finding)


def _saving(finding: Finding) -> Cell:
    text = f"{'≥ ' if finding.unseen else ''}{percent(finding.share)}"
    if finding.error_ns and finding.saving_ns:
        error = finding.share * finding.error_ns / finding.saving_ns
        text += f" ± {percent(error)}"
    return Quantity(finding.share, text)


def _tried(trial: Trial | None, finding: Finding) -> tuple[Cell, Cell]:
    if trial is None:
        return "", "not tried" if finding.option else NOT_TRIED
    if trial.saving is None:
        return "", trial.verdict
    text = percent(trial.saving)
    if trial.low is not None and trial.high is not None:
        text += f" [{percent(trial.low)}, {percent(trial.high)}]"
    return Quantity(trial.saving, text), trial.verdict


def _notes(found: tuple[Finding, ...], profile: Profile) -> tuple[str, ...]:
    if not found:
        return (NOTHING,)
    notes = [PREDICTED]
    if any(finding.unseen for finding in found):
        notes.append(UNSEEN)
    trials = [finding.trial for finding in found if finding.trial is not None]
    if not trials:
        notes.append(_untried(profile))
    notes += [f"{trial.option}: {trial.verdict}, {trial.reason}" for trial in trials]
    return tuple(notes)


def _untried(profile: Profile) -> str:
    """Why nothing was measured."""
    if not isinstance(profile.model, ModelConfig):
        return OWN_MODULE
    return NO_OPTION if profile.tried else UNTRIED


# -- what, and where ----------------------------------------------------------------------------


def _data(v: Values) -> str:
    return f"The step waits {seconds(float(v['data_ns']) / 1e9)} for its data."


def _sync(v: Values) -> str:
    where = f", in {v['where']}" if v["where"] else ", outside of the model"
    times = {0: "in every step", 1: "once a step"}.get(
        int(v["calls"]), f"{v['calls']} times a step"
    )
    return f"The host reads a number from a tensor {times}{where}: a GPU has to catch up first."


def _pause(v: Values) -> str:
    more = f" and {int(v['modules']) - 1} more" if int(v["modules"]) > 1 else ""
    return f"Between the operators of {v['where']}{more} the host does something else."


def _mixed(v: Values) -> str:
    times = "A matrix product is" if v["calls"] == 1 else f"{v['calls']} matrix products are"
    return f"{times} in float32 within a {v['dtype']} model, in {v['where']}."


def _attention(v: Values) -> str:
    return (
        f"Attention is written out in {v['where'] or 'the model'}: "
        f"{seconds(float(v['written_ns']) / 1e9)}, where one kernel takes "
        f"{seconds(float(v['fused_ns']) / 1e9)}."
    )


def _padding(v: Values) -> str:
    name = f"{v['field']} = " if v["field"] else "a size of "
    size, padded = int(v["size"]), int(v["padded"])
    tiles = (tile for tile in whatif.MULTIPLES if padded % tile == 0 and size % tile)
    missed = " or ".join(map(str, tiles))
    return f"{name}{grouped(size)} is no multiple of {missed} ({v['where'] or 'the model'})."


def _optimizer(v: Values) -> str:
    return (
        f"The optimizer runs {grouped(int(v['calls']))} operators a step, most of them "
        f"{v['operator']}: {seconds(float(v['ns']) / 1e9)}, where its bytes take "
        f"{seconds(float(v['ideal_ns']) / 1e9)}."
    )


def _throttled(v: Values) -> str:
    return (
        f"The card is slowed down ({v['reason']}): {si(float(v['clock_hz']), 'Hz')} of "
        f"{si(float(v['max_clock_hz']), 'Hz')}."
    )


def _dtype(v: Values) -> str:
    return f"Matrix products are in float32, and {v['dtype']} ones are faster here."


def _batch(v: Values) -> str:
    return (
        f"A batch of {grouped(int(v['batch_size']))} is below the knee: of twice as much, products "
        f"save {seconds(float(v['products_ns']) / 1e9)} of the step, and what does not grow "
        f"{seconds(float(v['constant_ns']) / 1e9)}."
        f"{' Whether it fits in memory is not known.' if v['room'] == 'unknown' else ''}"
    )


def _compile(v: Values) -> str:
    in_scores_s, host_s = float(v["in_scores_ns"]) / 1e9, float(v["host_ns"]) / 1e9
    return (
        f"{grouped(int(v['operators']))} operators a step write what the next one reads: "
        f"{si(float(v['moved_bytes']), 'B')} that compiled code would not move."
        f"{f' {seconds(host_s)} of what it saves is the host between them.' if host_s else ''}"
        f"{f' {seconds(in_scores_s)} in attention that is written out.' if in_scores_s else ''}"
    )


def _logits(v: Values) -> str:
    return (
        f"The loss moves {si(float(v['moved_bytes']), 'B')} over logits of "
        f"{grouped(int(v['rows']))} × {grouped(int(v['vocab_size']))}."
    )


def _recompute(v: Values) -> str:
    if v["room"] == "unknown":
        return "The backward pass runs parts again; whether memory is enough to keep them is not known."
    return (
        f"The backward pass runs parts again, and {gib(float(v['memory_bytes']))} of memory are "
        "enough to keep them."
    )


# -- what to type, or to change -----------------------------------------------------------------

CODE: dict[str, str] = {
    "data": "Read the next batch in other processes: DataLoader(num_workers=2, pin_memory=True).",
    "sync": "Take .item() and the like out of the forward pass; read numbers once, after the step.",
    "pause": "Take what sleeps, prints or waits there out of the forward pass.",
    "mixed": "Multiply in the model's format: leave out .float(), or the block without autocast.",
    "attention": "Call torch.nn.functional.scaled_dot_product_attention.",
    "optimizer": "Build it with fused=True.",
    "throttled": "Cool the card, or raise its power supply.",
    "batch": "Give each step twice as many rows.",
    "logits": "Compute the loss in chunks of rows (Liger's fused linear cross-entropy), or keep "
    "logits in bfloat16.",
    "recompute": "Leave out the checkpoint.",
}

WHAT: dict[str, Callable[[Values], str]] = {
    "data": _data,
    "sync": _sync,
    "pause": _pause,
    "mixed": _mixed,
    "attention": _attention,
    "padding": _padding,
    "optimizer": _optimizer,
    "throttled": _throttled,
    "dtype": _dtype,
    "batch": _batch,
    "compile": _compile,
    "logits": _logits,
    "recompute": _recompute,
}


def what(finding: Finding) -> str:
    """The finding in a sentence: what, and where."""
    return WHAT[finding.key](finding.values)


def how(finding: Finding) -> str:
    """What to type, or what to change."""
    if finding.option:
        return f"Type {finding.option}."
    if finding.key == "padding":
        v = finding.values
        to = f"Make {v['field'] or 'it'} {grouped(int(v['padded']))}"
        if v["field"] in ("vocab_size", "d_ff"):
            return f"{to}, the rest of it unused."
        return f"{to}, another width, which heads and norms may have too."
    return CODE[finding.key]
