"""Advice, tried: the step as it was profiled and the step as it would be, in turns.

What is compared is the time of a token, since a batch may be another. Only what an option or a
preset's number changes can be tried; code in someone's module cannot.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from gptbench import findings, rivals
from gptbench.comparability import FACTORS
from gptbench.comparison import Change, Row
from gptbench.config import ModelConfig, Workload, parse_dtype
from gptbench.errors import QuestionError
from gptbench.evidence import Finding
from gptbench.process import Progress
from gptbench.profiling import Profile, Trial
from gptbench.rivals import Rival, Terms
from gptbench.verdict import Verdict
from gptbench.visit import HoldTask
from gptbench.waterfall import Waterfall

TIME_S = 60.0

# Less than this part of what was predicted is none of it.
PART = 0.5

# What a person types for more of it, as sentences on too little time say.
TIME_OPTION = "--try-time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a trial is made with: the text that is read, None for the usual one; seconds for each."""

    data: Path | None
    time_s: float
    random: Random


def tried(
    profile: Profile, waterfall: Waterfall, means: Means, progress: Progress
) -> Iterator[Profile]:
    """The profile with one trial more each time, of every finding that can be tried.

    Raises what `rivals.compare` raises.
    """
    trials: list[Trial] = []
    for finding in findings.ranked(profile, waterfall):
        other = changed(profile, finding)
        if other is not None:
            trials.append(_trial(profile, finding, other, means, progress))
            yield replace(profile, trials=tuple(trials), tried=True)
    yield replace(profile, trials=tuple(trials), tried=True)


def changed(profile: Profile, finding: Finding) -> tuple[ModelConfig, Workload] | None:
    """The model and the workload with the advice taken; None where no option does that."""
    if not isinstance(profile.model, ModelConfig):
        return None
    try:
        other = _model(profile.model, finding), _workload(profile.workload, finding)
    except QuestionError:
        # A model that cannot be: a finding, and no trial.
        return None
    return None if other == (profile.model, profile.workload) else other


def _model(model: ModelConfig, finding: Finding) -> ModelConfig:
    """A width of d_model belongs to the heads too, and cannot be changed alone."""
    values = finding.values
    match finding.key, values.get("field"):
        case "padding", "vocab_size":
            return replace(model, vocab_size=int(values["padded"]))
        case "padding", "d_ff":
            return replace(model, d_ff=int(values["padded"]))
    return model


def _workload(work: Workload, finding: Finding) -> Workload:
    other = work
    match finding.key:
        case "attention" if finding.option:
            other = replace(work, attention="fused")
        case "dtype" if finding.values["dtype"] == "tf32":
            other = replace(work, tf32=True)
        case "dtype":
            dtype = parse_dtype(str(finding.values["dtype"]))
            other = replace(work, dtype=dtype, autocast=True, tf32=False)
        case "batch":
            other = work.with_batch(int(finding.values["larger"]))
        case "compile":
            other = replace(work, compile=True)
        case "recompute":
            other = replace(work, recompute="none")
    return other


def _trial(
    profile: Profile,
    finding: Finding,
    other: tuple[ModelConfig, Workload],
    means: Means,
    progress: Progress,
) -> Trial:
    assert isinstance(profile.model, ModelConfig)
    option = findings.change(finding)
    base = _rival("as profiled", profile, (profile.model, profile.workload), means)
    new = _rival(option, profile, other, means)
    terms = Terms(
        threshold=PART * finding.share,
        across=FACTORS,
        time_s=means.time_s,
        time_option=TIME_OPTION,
        control=False,
    )

    def telling(doing: str, expected_s: float) -> None:
        progress(f"trying {option}: {doing}", expected_s)

    found = rivals.compare(base, new, terms, means.random, telling)
    return judged(finding, found.rows[0], found.notes)


def _rival(label: str, profile: Profile, side: tuple[ModelConfig, Workload], means: Means) -> Rival:
    model, work = side
    task = HoldTask(
        model=model,
        workload=work,
        device=profile.device.kind,
        data=str(means.data.resolve()) if means.data else None,
    )
    return Rival(label=label, task=task, device=profile.device.name)


def judged(finding: Finding, row: Row, notes: Sequence[str] = ()) -> Trial:
    """A verdict of turns as one on the advice.

    It is confirmed where tokens are shown to take less time, by PART of what was predicted or more;
    refuted where the whole interval is below that; else inconclusive.
    """
    option = findings.change(finding)
    reason = " ".join((f"{row.reason}.", *(n for n in notes if n.startswith("The losses"))))
    if row.change is None:
        return Trial(key=finding.key, option=option, verdict="inconclusive", reason=reason)
    low, high = row.change.low, row.change.high
    bounded = math.isfinite(low) and math.isfinite(high)
    return Trial(
        key=finding.key,
        option=option,
        verdict=_verdict(row.verdict, row.change, PART * finding.share),
        reason=reason,
        saving=-math.expm1(row.change.log_ratio),
        low=-math.expm1(high) if bounded else None,
        high=-math.expm1(low) if bounded else None,
        confidence=row.change.confidence,
    )


def _verdict(
    of_turns: Verdict, change: Change, least: float
) -> Literal["confirmed", "refuted", "inconclusive"]:
    """What turns say of a saving of `least`; nothing where they failed or cannot be compared."""
    if of_turns in ("FAILED", "INCOMPARABLE"):
        return "inconclusive"
    if -math.expm1(change.low) < least:
        return "refuted"
    enough = -math.expm1(change.log_ratio) >= least
    return "confirmed" if of_turns == "IMPROVED" and enough else "inconclusive"
