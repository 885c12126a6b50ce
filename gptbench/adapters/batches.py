"""How many tokens a batch holds."""

from collections.abc import Mapping
from typing import Any

from gptbench.errors import QuestionError


def tokens_of(batch: Any) -> int:
    """Numbers of `input_ids`, or of the first tensor of a tuple, or of the one tensor: padding too.

    The shape says it, so nothing waits for the device. Raises QuestionError for other batches.
    """
    ids = batch
    if isinstance(batch, Mapping):
        ids = batch.get("input_ids")
    elif isinstance(batch, tuple | list):
        ids = next(iter(batch), None)
    numel = getattr(ids, "numel", None)
    if not callable(numel):
        raise QuestionError(
            f"a batch of type {type(batch).__name__!r} has no input_ids to count. Give tokens, a "
            "function from a batch to its number of tokens."
        )
    return int(numel())
