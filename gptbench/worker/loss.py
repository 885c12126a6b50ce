"""What a step of someone's own module ends in, by one rule for what is counted and what is timed.

What the module calls its loss, or returns without dimensions, is the loss. Logits [B, T, V] for
token ids [B, T] have the cross-entropy of the next token. Anything else has the mean of its squares.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gptbench.inputs import Input

# A position without a next token: torch's own sign for a target that does not count.
_NO_TARGET = -100


@dataclass(frozen=True, slots=True)
class Loss:
    """A tensor without dimensions, and the rule that made it."""

    value: Tensor
    rule: str


def of(result: Any, given: Input, first: Tensor) -> Loss | None:
    """The loss of what a module returned for its first input; None where nothing can be trained.

    Without gradients every floating-point output counts as one that could be.
    """
    own = _called_loss(result)
    if own is not None:
        return Loss(own, "the loss that the module returns")
    ends = [t for t in tensors(result) if _differentiable(t)]
    scalars = [t for t in ends if t.dim() == 0]
    if scalars:
        return Loss(_sum(scalars), "the output without dimensions that the module returns")
    for logits in ends:
        if _are_logits(logits, given, first):
            return Loss(_next_token(logits, first), "next-token cross-entropy of its logits")
    if not ends:
        return None
    return Loss(_sum([_mean_square(t) for t in ends]), "mean square of its outputs")


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of what a model returned: of tuples, dicts and dataclasses, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


def _called_loss(result: Any) -> Tensor | None:
    found = result.get("loss") if isinstance(result, Mapping) else getattr(result, "loss", None)
    if isinstance(found, Tensor) and found.numel() == 1 and _differentiable(found):
        return found.reshape(())
    return None


def _differentiable(tensor: Tensor) -> bool:
    numbers = tensor.is_floating_point() or tensor.is_complex()
    return numbers and (tensor.requires_grad or not torch.is_grad_enabled())


def _are_logits(tensor: Tensor, given: Input, ids: Tensor) -> bool:
    """As wide as the vocabulary at the least: hidden states have as many dimensions."""
    return (
        given.is_ids
        and tensor.is_floating_point()
        and ids.dim() == 2
        and ids.shape[1] > 1
        and tensor.dim() == 3
        and tensor.shape[:2] == ids.shape
        and tensor.shape[2] >= (given.below or 1)
    )


def _next_token(logits_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    """Of all positions but the last, without a copy of the logits to leave it out."""
    targets = F.pad(ids_BT[:, 1:].long(), (0, 1), value=_NO_TARGET)
    return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets.flatten())


def _mean_square(tensor: Tensor) -> Tensor:
    magnitudes = tensor.abs() if tensor.is_complex() else tensor
    return magnitudes.float().square().mean()


def _sum(values: Sequence[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total
