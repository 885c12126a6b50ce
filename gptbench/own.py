"""Someone's own module as a model: what builds it, and what it is given.

The first dimension of the first input is the batch. Another batch size replaces it there, and in
every other input whose first dimension is the same.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Self

from gptbench.config import Model
from gptbench.errors import QuestionError
from gptbench.inputs import Input, parse_target


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModule(Model):
    """`name` is 'module:factory' or 'path/to/file.py:factory'; `inputs` has at least one."""

    name: str
    inputs: tuple[Input, ...]

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("a module of one's own has at least one input")

    @property
    def batch_size(self) -> int:
        return self.inputs[0].shape[0]

    @property
    def row_tokens(self) -> int:
        """Tokens of one row of the batch; 1 where the first input is no token ids."""
        first = self.inputs[0]
        return prod(first.shape[1:]) if first.is_ids else 1

    @property
    def unit(self) -> str:
        return "token" if self.inputs[0].is_ids else "sample"

    def with_batch(self, batch_size: int) -> Self:
        before = self.batch_size
        return replace(self, inputs=tuple(_with_batch(i, before, batch_size) for i in self.inputs))


def read(target: str, inputs: tuple[Input, ...]) -> OwnModule:
    """The module that a person names, with what they give it. Raises QuestionError."""
    parse_target(target)
    if not inputs:
        raise QuestionError(f"'{target}' needs an input. Type --input-shape 1x1024, or another.")
    return OwnModule(name=target, inputs=inputs)


def _with_batch(given: Input, before: int, after: int) -> Input:
    if given.shape[0] != before:
        return given
    return replace(given, shape=(after, *given.shape[1:]))
