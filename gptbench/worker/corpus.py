"""A text as a file of token ids, made once and mapped into memory from then on.

    tokens.bin      ids in 16 or 32 bits, those for training first
    tokenizer.json  what turned the text into them
    corpus.json     how many there are of each

The folder's name is a hash of the text and the tokenizer: another text is another folder.
"""

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptbench.corpus import VALIDATION_SHARE, Corpus, CorpusTask
from gptbench.documents import dump_json, from_builtins
from gptbench.errors import QuestionError, UnavailableError
from gptbench.worker import sources, tokenizer
from gptbench.worker.sources import Pieces, Text
from gptbench.worker.tokenizer import Tokenizer

TOKENS = "tokens.bin"
FACTS = "corpus.json"

# How the name of a folder begins that is not made yet; the machine's and the process's follow.
MAKING = ".making-"

# Raised whenever another file is made of the same text: older ones are then not found.
FORMAT = 2

Progress = Callable[[str, float], None]


def corpus(task: CorpusTask, progress: Progress) -> Corpus:
    """The tokens of a source: those made before, or made now.

    Raises QuestionError for a source without text, UnavailableError where nothing can be written.
    """
    progress("reading the text", 0.0)
    text = sources.of(task.source, task.seed)
    if not any(text.all()):
        raise QuestionError(f"--data '{task.source.name}' is empty: there is nothing to learn.")
    made_of = f"{FORMAT} {task.tokenizer} {task.tokenizer_size} {text.key}"
    key = hashlib.sha256(made_of.encode()).hexdigest()[:32]
    folder = Path(task.cache) / key
    found = _found(folder)
    if found is None:
        _make(folder, text, task, progress)
        found = _found(folder)
    if found is None:
        raise UnavailableError(f"the tokens in '{folder}' are not whole. Remove that folder.")
    return found


def read(cache: Path, found: Corpus) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Ids for training and for validation, mapped into memory."""
    path = cache / found.key / TOKENS
    ids = np.memmap(path, dtype=_dtype(found.vocab_size), mode="r")
    return ids[: found.train_tokens], ids[found.train_tokens :]


def _found(folder: Path) -> Corpus | None:
    """The corpus of a folder, None where it is not whole."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        found = from_builtins({"key": folder.name, **facts}, Corpus)
        size = (folder / TOKENS).stat().st_size
    except (OSError, TypeError, ValueError):
        return None
    tokens = found.train_tokens + found.validation_tokens
    whole = size == tokens * np.dtype(_dtype(found.vocab_size)).itemsize
    return found if whole and (folder / tokenizer.FILE).is_file() else None


def _clear(place: Path) -> None:
    """Remove what processes of this machine that are dead have left half made."""
    for left in place.glob(f"{MAKING}{platform.node()}-*"):
        _, process, _ = left.name.rsplit("-", 2)
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether there is such a process, of whomever."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _make(folder: Path, text: Text, task: CorpusTask, progress: Progress) -> None:
    """Write the folder whole or not at all; who else made it meanwhile made the same."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear(folder.parent)
        mine = f"{MAKING}{platform.node()}-{os.getpid()}-"
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=mine) as place:
            fresh = Path(place) / "corpus"
            fresh.mkdir()
            progress("making the tokenizer", 0.0)
            made = tokenizer.train(task.tokenizer, text.all(), task.tokenizer_size)
            made.save(fresh)
            progress("turning the text into tokens", 0.0)
            counts = _write(fresh / TOKENS, text, made)
            facts = {"vocab_size": made.vocab_size, **counts}
            (fresh / FACTS).write_text(dump_json(facts), encoding="utf-8")
            if _found(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
                fresh.rename(folder)
    except OSError as error:
        if _found(folder) is None:
            raise UnavailableError(f"cannot write the tokens: {error}.") from error


def _write(path: Path, text: Text, made: Tokenizer) -> dict[str, int]:
    """Write all ids; how many are for training, and how many for validation."""
    with path.open("wb") as file:

        def written(pieces: Pieces) -> int:
            return sum(file.write(ids.tobytes()) // ids.itemsize for ids in _ids(pieces(), made))

        train, kept = written(text.train), 0
        if text.validation is not None:
            kept = written(text.validation)
        else:
            kept = int(train * VALIDATION_SHARE)
            train -= kept
        file.flush()
        os.fsync(file.fileno())
    return {"train_tokens": train, "validation_tokens": kept}


def _ids(pieces: Iterator[str], made: Tokenizer) -> Iterator[npt.NDArray[Any]]:
    for piece in pieces:
        yield np.array(made.encode(piece), dtype=_dtype(made.vocab_size))


def _dtype(vocab_size: int) -> type[Any]:
    """The smallest whole numbers that hold every id."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32
