"""What an index lists without drawing it over time: profiles and trainings; and links to pages."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from gptbench import trainrecord, waterfall
from gptbench.archive import PROFILE, TRAINING, Filed
from gptbench.profiling import Profile
from gptbench.record import Record
from gptbench.report import learning, profiles, words
from gptbench.report.table import Cell, Column, Link, Quantity, Table, count, known
from gptbench.trainrecord import TrainRecord
from gptbench.units import percent, seconds, si


def profiled(found: Sequence[Filed[Profile]], folder: Path | None = None) -> Table:
    """A row a profile, the newest first; with a folder each links to its own page from there."""
    ordered = sorted(found, key=lambda filed: (filed.value.started_at, filed.name), reverse=True)
    return Table(
        title=counted(len(found), "profile"),
        columns=(
            Column("profile"),
            Column("started (UTC)"),
            Column("benchmark", wraps=True),
            Column("device", wraps=True),
            Column("step time", right=True, unit="s"),
            Column("MFU", right=True),
            Column("largest loss", wraps=True),
            Column("unexplained", right=True, spare=True),
        ),
        rows=tuple(_profile(filed, folder) for filed in ordered),
    )


def _profile(filed: Filed[Profile], folder: Path | None) -> tuple[Cell, ...]:
    found = filed.value
    derived = waterfall.derive(found)
    losses = [part for part in derived.parts if part.kind != "ideal"]
    most = max(losses, key=lambda part: part.ns, default=None)
    return (
        linked(filed, PROFILE, "profile.html", folder),
        started(found.started_at),
        f"{found.model.name}, {words.workload(found.workload)}",
        found.device.name,
        Quantity(derived.step_ns / 1e9, seconds(derived.step_ns / 1e9)),
        known(waterfall.useful_share(derived, found), percent),
        f"{profiles.NAMES[most.key]} {percent(most.ns / derived.step_ns)}" if most else "",
        known(derived.unexplained, percent),
    )


def trained(found: Sequence[Filed[TrainRecord]], folder: Path | None = None) -> Table:
    """A row a training, the newest first; with a folder each links to its own page from there."""
    ordered = sorted(found, key=lambda filed: (filed.value.started_at, filed.name), reverse=True)
    return Table(
        title=counted(len(found), "training"),
        columns=(
            Column("training"),
            Column("started (UTC)"),
            Column("model and text", wraps=True),
            Column("device", wraps=True),
            Column("steps", right=True),
            Column("validation loss", right=True),
            Column("training time", right=True, unit="s"),
            Column("tokens/s", right=True),
            Column("MFU", right=True, spare=True),
        ),
        rows=tuple(_training(filed, folder) for filed in ordered),
    )


def _training(filed: Filed[TrainRecord], folder: Path | None) -> tuple[Cell, ...]:
    rec = filed.value
    found = trainrecord.derive(rec)
    return (
        linked(filed, TRAINING, "train.html", folder),
        started(rec.started_at),
        f"{rec.model.name}, {Path(rec.data).name}",
        rec.device.name,
        count(rec.trained.steps),
        learning.nats(found.last.validation_loss),
        learning.time(rec.trained.train_ns),
        known(found.tokens_per_s, si),
        known(found.mfu, percent),
    )


def started(at: str) -> str:
    """'2026-01-02 03:04' of a time in ISO 8601; what is no such time as it is."""
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        return at
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def linked(
    filed: Filed[Record] | Filed[Profile] | Filed[TrainRecord],
    own: str,
    page: str,
    folder: Path | None,
) -> str:
    """A file's name, as a link to the page beside it where there is one."""
    beside = filed.path.with_name(page)
    if folder is None or filed.path.name != own or not beside.exists():
        return filed.name
    return Link(filed.name, quote(Path(os.path.relpath(beside, folder)).as_posix()))


def counted(number: int, one: str, several: str = "") -> str:
    """'1 result', '1,024 results'; `several` is a plural that has no s at its end."""
    return f"1 {one}" if number == 1 else f"{number:,} {several or f'{one}s'}"
