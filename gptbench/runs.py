"""Training runs that a scaling law is fitted to: parameters, tokens and the loss of each.

They are read from `gptbench train`'s own records, or from whatever writes these three keys: a JSON
object or a list of them, or a CSV with these columns. Of records those count that ran to the end of
their recipe: one that a target or a time stopped was not done, and a target chooses its loss.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptbench import flops, trainrecord
from gptbench.errors import QuestionError
from gptbench.trainrecord import TrainRecord

KEYS = ("parameters", "tokens", "loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A model of `parameters` that read `tokens`, and its validation loss in nats a token."""

    parameters: float
    tokens: float
    loss: float

    @property
    def flops(self) -> float:
        """6·N·D, as scaling laws count."""
        return 6 * self.parameters * self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A training that ended before its `steps_asked`: the loss of a rate that had not fallen yet."""

    file: str
    steps: int
    steps_asked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The runs that were read, and those that were left out."""

    runs: tuple[TrainingRun, ...]
    unfinished: tuple[Unfinished, ...]


def read(paths: Sequence[Path]) -> Found:
    """The runs of files, and of every train.json below folders.

    Raises QuestionError that names the file and what is wrong, or two whose losses are of other
    texts or tokenizers.
    """
    runs: list[TrainingRun] = []
    records: list[tuple[Path, TrainRecord]] = []
    for file in (file for path in paths for file in _files(path)):
        rows = _rows(file)
        if isinstance(rows, Mapping) and "trained" in rows:
            records.append((file, trainrecord.read(file)))
        else:
            runs += _runs(file, rows)
    done = [(file, rec) for file, rec in records if rec.trained.stop == "steps"]
    _require_one_corpus(done)
    return Found(
        runs=(*runs, *(_of_record(rec) for _, rec in done)),
        unfinished=tuple(
            Unfinished(file=str(file), steps=rec.trained.steps, steps_asked=rec.recipe.steps)
            for file, rec in records
            if rec.trained.stop != "steps"
        ),
    )


def _require_one_corpus(records: Sequence[tuple[Path, TrainRecord]]) -> None:
    """Nats a token are of one text in one tokenizer's tokens."""
    for file, rec in records[1:]:
        first_file, first = records[0]
        if rec.corpus.key != first.corpus.key:
            raise QuestionError(
                f"losses of '{first_file}' ({_text(first)}) and '{file}' ({_text(rec)}) are not of "
                "the same tokens. Fit the runs of each text and tokenizer apart."
            )


def _text(rec: TrainRecord) -> str:
    return f"{rec.data}, {rec.tokenizer}, corpus {rec.corpus.key}"


def _of_record(rec: TrainRecord) -> TrainingRun:
    learned = trainrecord.derive(rec)
    return TrainingRun(
        parameters=flops.parameters(rec.model).total,
        tokens=learned.tokens,
        loss=learned.last.validation_loss,
    )


def _files(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return (path,)
    found = sorted(path.rglob(trainrecord.FILE))
    if not found:
        raise QuestionError(f"there is no {trainrecord.FILE} in '{path}' or below it.")
    return found


def _rows(file: Path) -> Any:
    """What a file holds: the rows of a CSV, or whatever JSON says."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise QuestionError(f"cannot read the runs '{file}': {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise QuestionError(f"'{file}' is not UTF-8 text.") from error
    if file.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"'{file}' is not JSON: {error}.") from error


def _runs(file: Path, rows: Any) -> Iterator[TrainingRun]:
    listed = rows if isinstance(rows, list) else [rows]
    for number, row in enumerate(listed, 1):
        where = f"'{file}'" if len(listed) == 1 else f"'{file}', run {number}"
        yield _run(where, row)


def _run(where: str, row: Any) -> TrainingRun:
    if not isinstance(row, Mapping):
        raise QuestionError(f"{where} is no object with {', '.join(KEYS)}.")
    return TrainingRun(**{key: _number(where, key, row) for key in KEYS})


def _number(where: str, key: str, facts: Mapping[str, Any]) -> float:
    value = facts.get(key)
    if isinstance(value, Mapping):
        value = value.get("total")  # as the parameters of every answer of gptbench
    if value is None:
        raise QuestionError(f"{where} has no {key!r}. A run needs {', '.join(KEYS)}.")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise QuestionError(f"{where}: {key} = {value!r} is not a number over 0.")
    return number
