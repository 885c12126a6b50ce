"""What someone's module is called with: tensors of the inputs' shapes, under the names it takes.

Integers are drawn evenly below the number of rows that they are looked up in; floating-point
numbers are standard normal; booleans are true. Never zeros, which multiply faster than numbers do.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from gptbench.errors import QuestionError
from gptbench.inputs import Input

Arguments = tuple[list[Tensor], dict[str, Tensor]]

# What integers are drawn below that nothing looks up: the values of a byte.
UNBOUNDED_BELOW = 256

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def names(model: nn.Module, target: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    """The keyword of each input in the model's forward; '' for those that are given by position.

    Raises QuestionError where the forward takes no such argument, or needs another.
    """
    given = [one.name for one in inputs]
    signature = inspect.signature(model.forward)
    taken = signature.parameters.values()
    known = [p.name for p in taken if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    anything = any(p.kind is p.VAR_KEYWORD for p in taken)
    if "" in given and known and not any(p.kind in _POSITIONAL for p in taken):
        # Every argument has to be named: the first shape is that of the first of them.
        given[given.index("")] = known[0]
    positional = given.count("")
    if positional and known and known[0] in given:
        raise QuestionError(
            f"--input-shape and --input {known[0]}=... both give {known[0]!r} to the forward of "
            f"'{target}'. Leave one of them out."
        )
    named = [name for name in given if name]
    unknown = [] if anything else [name for name in named if name not in known]
    if unknown:
        raise QuestionError(
            f"the forward of '{target}' has no argument {unknown[0]!r}. "
            f"It takes: {', '.join(known)}."
        )
    needed = [p.name for p in taken if p.default is p.empty and p.name in known][positional:]
    missing = [name for name in needed if name not in named]
    if missing:
        raise QuestionError(
            f"the forward of '{target}' needs {missing[0]!r} too. "
            f"Type --input {missing[0]}=SHAPE, or SHAPE:TYPE."
        )
    return tuple(given)


def bound(keywords: Sequence[str], tensors: Sequence[Tensor]) -> Arguments:
    """Positional and named arguments, as `names` says."""
    pairs = list(zip(keywords, tensors, strict=True))
    return [t for name, t in pairs if not name], {name: t for name, t in pairs if name}


def empty(given: Input) -> Tensor:
    """A tensor of the input's shape and type, on the device of the moment."""
    return torch.empty(given.shape, dtype=getattr(torch, given.dtype))


def drawn(given: Input, random: torch.Generator) -> Tensor:
    """A tensor of the input's shape and type with numbers in it, on the generator's device."""
    dtype: torch.dtype = getattr(torch, given.dtype)
    device = random.device
    if dtype == torch.bool:
        return torch.ones(given.shape, dtype=dtype, device=device)
    if given.is_ids:
        below = min(given.below or UNBOUNDED_BELOW, torch.iinfo(dtype).max + 1)
        return torch.randint(below, given.shape, dtype=dtype, generator=random, device=device)
    return torch.randn(given.shape, dtype=dtype, generator=random, device=device)


def in_range(inputs: Sequence[Input], found: Mapping[int, int]) -> tuple[Input, ...]:
    """The inputs with what their integers are drawn below: `found` by an input's place.

    Integers that nothing looks up, such as labels that were shifted first, are drawn below what
    the first input is, and else are bytes.
    """
    first = found.get(0, UNBOUNDED_BELOW)
    return tuple(_below(one, found.get(i, first)) for i, one in enumerate(inputs))


def _below(given: Input, below: int) -> Input:
    if not given.is_ids:
        return given
    return replace(given, below=below)
