"""Finds and calls someone's factory; says in a sentence, with their own line, what went wrong there."""

import difflib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from gptbench.errors import GptbenchError, QuestionError
from gptbench.inputs import parse_target
from gptbench.worker import oom

# A frame in one of these folders is no line of the person's own, unless there is no other.
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
_TORCH = str(Path(torch.__file__).parent)
_TRACER = {
    str(Path(__file__).with_name(f"{name}.py"))
    for name in (
        *("factory", "trace", "counter", "modules", "operators", "lookups", "loss", "arguments"),
        *("own", "step", "allocations", "footprint"),
    )
}

# How PyTorch says that a tensor was asked for numbers that it does not have.
_NO_NUMBERS = (
    "meta tensor",
    "meta device",
    "device meta",
    "out of meta",
    "Meta",
    "data-dependent",
    "DataDependent",
)

NO_NUMBERS_HINT = (
    " On the meta device tensors have no numbers. A tensor whose numbers are read can be made with "
    "device='cpu'."
)


def load(target: str) -> nn.Module:
    """The module that 'module:factory' names: what it returns, or an nn.Module itself.

    Raises QuestionError for everything that may be wrong with it.
    """
    return made(find(target), target)


def find(target: str) -> Any:
    """What 'module:factory' names, imported and not called. Raises QuestionError."""
    place, name = parse_target(target)
    with told(f"importing '{place}'"):
        source = _from_file(Path(place)) if place.endswith(".py") else _by_name(place)
    found: Any = source
    for word in name.split("."):
        found = _attribute(found, word, place)
    return found


def made(found: Any, target: str) -> nn.Module:
    """The module that a factory makes, or the module that was found. Raises QuestionError."""
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        kind = type(found).__name__
        raise QuestionError(f"'{target}' is no factory of a module: it is of type {kind}.")
    with told(f"'{target}()'"):
        module = found()
    if not isinstance(module, nn.Module):
        raise QuestionError(
            f"'{target}()' has to return an nn.Module, and returned something of type "
            f"{type(module).__name__}."
        )
    return module


def _from_file(path: Path) -> ModuleType:
    """A module from a file; what lies beside it can be imported, as when Python runs it."""
    sys.path.insert(0, str(path.parent.absolute()))
    name = path.stem if path.stem not in sys.modules else f"traced_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _by_name(name: str) -> ModuleType:
    """A module that the working directory or sys.path holds."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != name and not name.startswith(f"{missing}."):
            raise  # it is there, and imports something that is not
        looked = Path(*name.split(".")).with_suffix(".py")
        near = difflib.get_close_matches(name, [f.stem for f in Path.cwd().glob("*.py")], n=3)
        hint = f" Nearest: {', '.join(map(repr, near))}." if near else ""
        raise QuestionError(
            f"no module {name!r}: there is no '{looked}' in '{Path.cwd()}', nor anywhere on "
            f"sys.path.{hint}"
        ) from error


def _attribute(owner: Any, name: str, place: str) -> Any:
    if not hasattr(owner, name):
        # What stands there itself, not what it imports.
        own = getattr(owner, "__name__", None)
        known = [n for n, found in vars(owner).items() if getattr(found, "__module__", "") == own]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Nearest: {', '.join(map(repr, near))}." if near else ""
        if known and not near:
            hint = f" It has {', '.join(map(repr, known[:5]))}."
        raise QuestionError(f"'{place}' has no {name!r}.{hint}")
    return getattr(owner, name)


@contextmanager
def told(doing: str, hint: str = NO_NUMBERS_HINT) -> Iterator[None]:
    """Turn what someone's code raises within into a QuestionError that names their own line.

    `hint` is added where a tensor was asked for numbers. Out of memory stays what it is.
    """
    try:
        yield
    except GptbenchError:
        raise
    except (Exception, SystemExit) as error:
        if oom.is_out_of_memory(error):
            raise
        said = next(iter(str(error).strip().splitlines()), "").rstrip(".")
        what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        advice = (
            hint
            if any(words in f"{type(error).__name__}: {error}" for words in _NO_NUMBERS)
            else ""
        )
        raise QuestionError(f"{doing} failed{_place(error)}: {what}.{advice}") from error


def _place(error: BaseException) -> str:
    """' at net.py:12, in forward': the innermost line of the person's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {_short(error.filename)}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in _TRACER
        and not frame.filename.startswith((_TORCH, "<frozen"))
        and "/importlib/" not in frame.filename
    ]
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    for frame in (own or frames)[-1:]:
        within = f", in {frame.name}" if frame.name != "<module>" else ""
        return f" at {_short(frame.filename)}:{frame.lineno}{within}"
    return ""


def _short(filename: str) -> str:
    """A path as the person would type it from where they are."""
    path = Path(filename).absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
