"""Fields of a config.json: how each kind is read, and the sentence about one that is wrong.

These are named tuples, as frozen as dataclasses: they are made at every start of gptbench, and take
a fifth of the time.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gptbench.config import LARGEST_SIZE
from gptbench.errors import QuestionError


class File(NamedTuple):
    """A config.json: where it is, its type of model, and its fields."""

    path: Path
    type: str
    fields: dict[str, Any]

    def refusal(self, name: str, value: Any, rule: str) -> QuestionError:
        """The sentence about a field: its own name, what it holds, and what is true."""
        given = self.at(name) is not _ABSENT
        origin = "" if given else f" (left out, so the default of {self.type!r})"
        return QuestionError(f"{self.path}: {name} = {shown(value)}{origin} {rule}.")

    def at(self, name: str) -> Any:
        """The value of a field, or _ABSENT; a dot leads into an object: rope_parameters.factor."""
        outer, _, inner = name.partition(".")
        if not inner:
            return self.fields.get(outer, _ABSENT)
        table = self.fields.get(outer)
        return table.get(inner, _ABSENT) if isinstance(table, dict) else _ABSENT


_ABSENT = object()


def shown(value: Any) -> str:
    """A value as JSON has it; what is long or nested, abridged."""
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        return "[...]"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Key(NamedTuple):
    """A field of config.json: its spellings, transformers' own first, and what it is if left out.

    `take` makes a fact of a value: (value) -> (fact, "") or (anything, what is wrong with it).
    """

    names: tuple[str, ...]
    default: Any
    take: Callable[[Any], tuple[Any, str]]

    def spelling(self, file: File) -> str:
        """The name that the file uses, or would."""
        return next((n for n in self.names if file.at(n) is not _ABSENT), self.names[0])

    def value(self, file: File) -> Any:
        """The fact. Raises QuestionError for a value of another kind, or spelt twice and apart."""
        name = self.spelling(file)
        for other in self.names:
            if file.at(other) not in (_ABSENT, file.at(name)):
                rule = f"differs from {other} = {shown(file.at(other))}, the same thing"
                raise file.refusal(name, file.at(name), rule)
        value = self.default if file.at(name) is _ABSENT else file.at(name)
        fact, wrong = self.take(value)
        if wrong:
            raise file.refusal(name, value, wrong)
        return fact


def size(*names: str, default: int, least: int = 1, most: int = LARGEST_SIZE) -> Key:
    """A whole number, which null is not."""

    def take(value: Any) -> tuple[Any, str]:
        if type(value) is not int:
            return None, "is not a whole number"
        bad = not least <= value <= most
        return value, f"must lie between {least} and {most}" if bad else ""

    return Key(names, default, take)


def maybe_size(*names: str, default: int | None) -> Key:
    """A whole number, or null for the usual choice, which is ModelConfig's 0."""
    take = size(*names, default=1).take
    return Key(names, default, lambda value: (0, "") if value is None else take(value))


def pairs(*names: str, default: int) -> Key:
    """A whole number of numbers that turn, in pairs."""
    plain = size(*names, default=default)

    def take(value: Any) -> tuple[Any, str]:
        fact, wrong = plain.take(value)
        return fact, wrong or ("must be even, as they turn in pairs" if fact % 2 else "")

    return plain._replace(take=take)


def flag(*names: str, default: bool) -> Key:
    """True or false."""
    return Key(
        names,
        default,
        lambda value: (value, "" if isinstance(value, bool) else "is not true or false"),
    )


def number(*names: str, default: float) -> Key:
    """A finite number, whole or not."""

    def take(value: Any) -> tuple[Any, str]:
        good = type(value) in (int, float) and -1e300 < value < 1e300
        return (float(value), "") if good else (None, "is not a finite number")

    return Key(names, default, take)


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation(*names: str, default: str, known: dict[str, str] = ACTIVATIONS) -> Key:
    """transformers' words for an activation (activations.py, ACT2CLS), several for one function."""

    def take(value: Any) -> tuple[Any, str]:
        good = isinstance(value, str) and value in known
        return (known[value], "") if good else (None, f"is none of {', '.join(known)}")

    return Key(names, default, take)


def rope(name: str, *older: str, default: float) -> Key:
    """A number of the rotary positions: today inside rope_parameters, in older files outside."""
    return number(f"rope_parameters.{name}", f"rope_scaling.{name}", *older, default=default)
