"""Files that are written whole or not at all, and the folder that they go to."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from gptbench.errors import QuestionError, UnavailableError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a temporary one beside it, synced, then renamed.

    Raises UnavailableError with the system's reason (no space left, permission denied).
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UnavailableError(f"cannot write '{path}': {error.strerror}.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_all(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files by their names, each whole or not at all. Raises what `write_whole` raises."""
    for name, content in files.items():
        write_whole(folder / name, content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def output_folder(path: Path) -> Path:
    """The folder for results, made and proven writable before anything is measured.

    Raises QuestionError where it cannot be one.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise QuestionError(f"--out '{path}' cannot be written to: {error.strerror}.") from error
    return path
