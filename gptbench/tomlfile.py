"""A TOML file that a person writes: its tables, and the line where a key stands."""

import tomllib
from pathlib import Path
from typing import Any

from gptbench.errors import QuestionError


def read(path: Path, kind: str) -> tuple[str, dict[str, Any]]:
    """The text and the tables of a file; `kind` says in errors what it is.

    Raises QuestionError with the system's reason, or the line that is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise QuestionError(f"cannot read the {kind} '{path}': {reason}.") from error
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise QuestionError(f"{path}: malformed TOML: {error}.") from error


def line_of(text: str, table: str, key: str = "", nth: int = 1) -> int:
    """The line (from 1) where `key` of `table` stands; the table's own where the key has none.

    `nth` counts the tables of that name from 1, where [[table]] stands several times.
    """
    inside, start, seen = table == "", 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            named = stripped.split("]")[0].strip("[\"' ") == table
            seen += named
            inside = named and seen == nth
            start = number if inside else start
        if inside and key and stripped.partition("=")[0].strip().strip("\"'") == key:
            return number
    return start
