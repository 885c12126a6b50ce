"""What a traced model is given: tensors by shape and type, as a person writes them.

1x1024                          the first argument, token ids
targets=1x1024                  an argument by its name
mask=1x1x1024x1024:float32      and by its type
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from gptbench.config import DTYPE_SHORT
from gptbench.errors import QuestionError, UnknownNameError

DTYPES = (
    *("int64", "int32", "int16", "int8", "uint8", "bool"),
    *("float32", "bfloat16", "float16", "float64", "complex64"),
)

_SHAPE = re.compile(r"\d+(?:[x×,]\d+)*")

# PyTorch holds the bytes of a tensor, 16 a number at most, in a signed number of 64 bits.
_LARGEST = 2**59


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One tensor: the argument's name ('' for the first one), its shape, torch's word for its type.

    Integers stand for token ids, so that the product of such a shape is a number of tokens.
    `below` is what they are drawn below: the rows of the table that they are looked up in. A trace
    finds it; None before.
    """

    name: str = ""
    shape: tuple[int, ...]
    dtype: str = "int64"
    below: int | None = None

    @property
    def is_ids(self) -> bool:
        """Whether these are token ids."""
        return self.dtype.startswith(("int", "uint"))

    def __str__(self) -> str:
        """As a person writes it: 'targets=1x1024:int64'."""
        shape = "x".join(map(str, self.shape))
        return f"{self.name}={shape}:{self.dtype}" if self.name else f"{shape}:{self.dtype}"


def is_target(text: str) -> bool:
    """Whether a person who types this for a model means a factory of their own."""
    return ":" in text and not os.path.exists(text)  # noqa: PTH110, Path's raises for odd names


def given(shape: str | None, dtype: str | None, named: Iterable[str]) -> tuple[Input, ...]:
    """The inputs of --input-shape, --input-dtype and every --input; none where nothing was typed.

    Raises QuestionError for what does not read, and for a type without a shape.
    """
    others = tuple(map(parse_named, named))
    if shape is None and dtype is not None:
        raise QuestionError(f"--input-dtype {dtype} needs --input-shape, such as 1x1024.")
    if shape is None:
        return others
    return (Input(shape=parse_shape(shape), dtype=parse_dtype(dtype or "int64")), *others)


def parse_target(text: str) -> tuple[str, str]:
    """('net', 'build') of 'net:build', ('models/net.py', 'build') of 'models/net.py:build'.

    Raises QuestionError where a half is missing, or where a file is named that is not there.
    """
    place, _, factory = text.rpartition(":")
    if not place or not all(word.isidentifier() for word in factory.split(".")):
        raise QuestionError(
            f"{text!r} is no module:factory. Type one such as net:build or models/net.py:build."
        )
    path = Path(place)
    if path.suffix == ".py" and not path.is_file():
        known = [str(other) for other in path.parent.glob("*.py")]
        raise UnknownNameError("file", place, known, f"It was looked for at '{path.absolute()}'.")
    return place, factory


def parse_shape(text: str) -> tuple[int, ...]:
    """(1, 1024) of '1x1024'. Raises QuestionError for anything else, and for empty tensors."""
    if not _SHAPE.fullmatch(text):
        raise QuestionError(f"{text!r} is no shape. Type one such as 1x1024.")
    shape = tuple(int(size) for size in re.split(r"[x×,]", text))
    if 0 in shape:
        raise QuestionError(f"{text!r} is the shape of a tensor with nothing in it.")
    if prod(shape) >= _LARGEST:
        raise QuestionError(f"{text!r} is larger than any tensor can be.")
    return shape


def parse_dtype(text: str) -> str:
    """'float32' of 'float32' or 'fp32'. Raises QuestionError that names the known words."""
    dtype = DTYPE_SHORT.get(text, text)
    if dtype not in DTYPES:
        raise UnknownNameError("type", text, DTYPES, f"Known: {', '.join(DTYPES)}.")
    return dtype


def parse_named(text: str) -> Input:
    """The Input of 'mask=1x1x16x16:bool'. Raises QuestionError that shows how one is written."""
    name, equals, rest = text.partition("=")
    shape, _, dtype = rest.partition(":")
    if not equals or not name.isidentifier():
        raise QuestionError(
            f"--input {text!r} names no argument. Type it as NAME=SHAPE, such as targets=1x1024."
        )
    return Input(name=name, shape=parse_shape(shape), dtype=parse_dtype(dtype or "int64"))
