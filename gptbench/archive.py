"""Results that were kept: found by what a file holds, in whatever folder and under whatever name.

A folder is walked. The points of a sweep are results like any other, and its failures are told
beside them; so is a file that should be a result and does not read.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from gptbench import device, metrics, profiling, record, shelf, stored, trainrecord
from gptbench.device import Device
from gptbench.errors import QuestionError
from gptbench.profiling import Profile
from gptbench.record import Record
from gptbench.trainrecord import TrainRecord
from gptbench.upgrades import Document

Kept_co = TypeVar("Kept_co", covariant=True)
Judged = TypeVar("Judged", Record, Profile, TrainRecord)

# What a file may hold.
Kept = Record | Profile | TrainRecord

# What `--out` calls them. Under another name a file is one of them only if it says so.
RESULT, PROFILE, TRAINING = "result.json", "profile.json", trainrecord.FILE
_MARK = b'"schema_version"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed(Generic[Kept_co]):
    """A result and its file; `name` is the file as seen from the folder that was asked for."""

    name: str
    path: Path
    value: Kept_co


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A file without a result: its name, how that is called, and why.

    `error` is what reading it raised, where that is why.
    """

    name: str
    kind: str
    reason: str
    error: QuestionError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Everything that was found, in the order of the names; `walked` if a folder has several."""

    records: tuple[Filed[Record], ...]
    profiles: tuple[Filed[Profile], ...]
    trainings: tuple[Filed[TrainRecord], ...]
    lost: tuple[Lost, ...]
    walked: bool


def gathered(paths: Sequence[Path]) -> Archive:
    """The results in files and under folders, by the peaks that the table has today.

    Raises QuestionError for a file that was asked for and does not read, and for a folder without
    any result.
    """
    rows = device.table()
    found: dict[str, Filed[Kept]] = {}
    lost: list[Lost] = []
    walked = False
    for path in paths:
        if path.is_dir():
            whole = list(under(path, rows, "" if len(paths) == 1 else str(path)))
            kept = [one for one in whole if isinstance(one, Filed)]
            gone = [one for one in whole if isinstance(one, Lost)]
            if not kept:
                raise QuestionError(_nothing_under(path, gone))
            lost += gone
            walked = walked or len(whole) > 1
        else:
            kept = [Filed(name=str(path), path=path, value=read(path, rows))]
        # A file that is named twice is one result.
        found |= {os.path.abspath(one.path): one for one in kept}  # noqa: PTH100 - links are kept
    return Archive(
        records=_those(Record, found.values()),
        profiles=_those(Profile, found.values()),
        trainings=_those(TrainRecord, found.values()),
        lost=tuple(lost),
        walked=walked,
    )


def _those(kind: type[Judged], found: Iterable[Filed[Kept]]) -> tuple[Filed[Judged], ...]:
    """The files that hold something of a kind."""
    return tuple(
        Filed(name=one.name, path=one.path, value=one.value)
        for one in found
        if isinstance(one.value, kind)
    )


def read(path: Path, rows: Iterable[Device]) -> Kept:
    """The result, profile or training in a file, by the peaks of the table's rows.

    Raises QuestionError that says what is wrong with it.
    """
    return _valued(stored.document(path), path, rows)


def _valued(document: Document, path: Path, rows: Iterable[Device]) -> Kept:
    kind = kind_of(document)
    if kind is Record:
        return _current(record.of(document, path, Record), rows)
    if kind is Profile:
        return _current(profiling.of(document, path, Profile), rows)
    if kind is TrainRecord:
        return _current(trainrecord.of(document, path), rows)
    raise QuestionError(
        f"'{path}' is of gptbench, but holds no result, no profile and no training."
    )


def kind_of(document: Document) -> type[Kept] | None:
    """What a document is of: the raw times of a result or of a profile, or a training."""
    kinds: dict[str, type[Kept]] = {
        "profiled": Profile,
        "trained": TrainRecord,
        "measurement": Record,
    }
    return next((kind for key, kind in kinds.items() if key in document), None)


def under(folder: Path, rows: Iterable[Device], within: str = "") -> Iterator[Filed[Kept] | Lost]:
    """What a folder holds at any depth, but for what is hidden, by the peaks of the table's rows.

    Names are as seen from the folder, and `within` before them.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(place)
        if here.name == shelf.FAILURES and (here.parent / shelf.POINTS).is_dir():
            yield from _failures(here, folder, within)
            continue
        for name in sorted(files):
            if name.endswith(".json") and not name.startswith("."):
                one = _looked_at(here / name, _named(here / name, folder, within), rows)
                if one is not None:
                    yield one


def _named(path: Path, folder: Path, within: str) -> str:
    return (Path(within) / path.relative_to(folder)).as_posix()


def _looked_at(path: Path, name: str, rows: Iterable[Device]) -> Filed[Kept] | Lost | None:
    """A file's result, why it has none, or None where it is something else."""
    try:
        found = _claimed(path)
        if found is None:
            return None
        return Filed(name=name, path=path, value=_valued(found, path, rows))
    except QuestionError as error:
        return _unreadable(name, path, error)


def _unreadable(name: str, path: Path, error: QuestionError) -> Lost:
    """A file that does not read, by the name that it has in this archive whatever was typed."""
    reason = str(error).replace(str(path), name)
    return Lost(name=name, kind="unreadable", reason=reason, error=error)


def _claimed(path: Path) -> Document | None:
    """The document of a file that is a result by its name or by what it says; else None."""
    if path.name in {RESULT, PROFILE, TRAINING}:
        return stored.document(path)
    text = stored.content(path)
    if _MARK not in text:
        return None
    found = stored.parsed(text, path)
    return found if stored.is_document(found) and kind_of(found) else None


def _failures(here: Path, folder: Path, within: str) -> Iterator[Lost]:
    """The points of a sweep that have no result, each with the reason that was stored."""
    sweep = here.parent
    for path in sorted(here.glob("*.json")):
        if (sweep / shelf.result_file(path.stem)).exists():
            continue
        name = _named(path, folder, within)
        try:
            failed = shelf.failure(sweep, path.stem)
        except QuestionError as error:
            yield _unreadable(name, path, error)
        else:
            if failed is not None:
                yield Lost(name=name, kind=failed.kind, reason=failed.reason)


def _nothing_under(folder: Path, gone: Sequence[Lost]) -> str:
    if not gone:
        return (
            f"there is no result under '{folder}'. Type a result.json, profile.json or train.json, "
            "or a folder that holds some."
        )
    return (
        f"there is no result under '{folder}': {len(gone)} files have none. The first, "
        f"{gone[0].name}: {gone[0].reason}"
    )


def _current(value: Judged, rows: Iterable[Device]) -> Judged:
    """The same, judged by today's peaks."""
    used = metrics.currently_judged(value.device, rows)
    return value if used == value.device else replace(value, device=used)
