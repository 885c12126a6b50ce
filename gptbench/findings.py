"""What to change in a profiled step, ranked by what it would gain; the refuted last.

A finding that would save less than LEAST of the step is left out. One whose cost this device cannot
show is not: it stands in front of all that would save less than UNSEEN of the step, and where a
module reads numbers on its way, which breaks the one graph of compiled code, in front of compiling.
What compiling would save in attention that is written out does not raise it above the advice to
write it as one kernel, which saves that too, for nothing.
"""

from dataclasses import replace
from typing import Any

from gptbench import choices, documents, faults
from gptbench.evidence import Evidence, Finding
from gptbench.profiling import Profile
from gptbench.waterfall import Waterfall

LEAST = 0.005
UNSEEN = 0.01


def ranked(profile: Profile, waterfall: Waterfall) -> tuple[Finding, ...]:
    """Every finding, most gain first, each with the trial of it if there was one."""
    evidence = Evidence(profile, waterfall)
    tried = {(trial.key, trial.option): trial for trial in profile.trials}
    found = [
        replace(finding, trial=tried.get((finding.key, change(finding))))
        for finding in (*faults.of(evidence), *choices.of(evidence))
        if finding.share >= LEAST or finding.unseen
    ]
    by_key = {finding.key: finding for finding in found}
    return tuple(sorted(found, key=lambda one: _rank(one, by_key)))


def change(finding: Finding) -> str:
    """What tells two findings of one kind apart: the option, or the size that would be another."""
    values = finding.values
    return finding.option or (
        f"{values['size']} → {values['padded']}" if "padded" in values else ""
    )


def _rank(finding: Finding, by_key: dict[str, Finding]) -> tuple[bool, float, bool]:
    """Refuted last, most gain first; what is unseen before what it counts as much as."""
    refuted = finding.trial is not None and finding.trial.verdict == "refuted"
    gain = finding.share
    if finding.key == "compile" and "attention" in by_key:
        gain *= 1 - float(finding.values["in_scores_ns"]) / finding.saving_ns
    if finding.unseen:
        breaks_graph = "compile" in by_key and finding.values["modules"]
        gain = max(gain, UNSEEN, by_key["compile"].share if breaks_graph else 0.0)
    return refuted, -gain, not finding.unseen


def document(found: tuple[Finding, ...]) -> list[dict[str, Any]]:
    """The published JSON of findings: `saving_s` and its standard error, `share` of the step."""
    return [
        {
            "rank": rank,
            "key": finding.key,
            "saving_s": finding.saving_ns / 1e9,
            "share": finding.share,
            "error_s": finding.error_ns / 1e9,
            "basis": finding.basis,
            "unseen": finding.unseen,
            "option": finding.option,
            "values": finding.values,
            "trial": finding.trial and documents.to_builtins(finding.trial),
        }
        for rank, finding in enumerate(found, 1)
    ]
