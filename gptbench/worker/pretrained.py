"""A model with its tokenizer from a folder, whoever wrote it: gptbench, or transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gptbench.config import Attention
from gptbench.errors import QuestionError
from gptbench.hub import reader
from gptbench.worker import checkpoint, tokenizer, weights
from gptbench.worker.model import GPT
from gptbench.worker.tokenizer import Subwords, Tokenizer

# Where gptbench train keeps the model in its --out.
KEPT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A model, and how text gets in and out of it.

    `opening` are the tokens that stand in front of every text, `endings` those that end one.
    """

    model: GPT
    tokenizer: Tokenizer | None
    opening: tuple[int, ...] = ()
    endings: frozenset[int] = frozenset()


def load(
    folder: Path, device: torch.device, dtype: torch.dtype, attention: Attention
) -> Pretrained:
    """What a folder holds, by its config.json; of a training's --out, the checkpoint in it.

    Raises QuestionError, in a sentence, for a folder that is not there, holds no model, or one that
    is broken or not supported.
    """
    folder = standing(folder)
    if checkpoint.is_ours(folder):
        model, ours = checkpoint.load_model(folder, device, dtype, attention)
        return Pretrained(model=model.eval(), tokenizer=ours)
    if not (folder / reader.NAME).is_file():
        raise QuestionError(
            f"'{folder}' holds no {reader.NAME}: it is no checkpoint, of gptbench or of transformers."
        )
    fields = reader.contents(folder / reader.NAME)
    model = weights.read(folder, fields, device, dtype, attention)
    theirs = _tokenizer(folder, model.config.vocab_size)
    return Pretrained(
        model=model,
        tokenizer=theirs,
        opening=_opening(theirs, fields),
        endings=_endings(fields),
    )


def standing(folder: Path) -> Path:
    """Where the model of a folder is: in it, or in the checkpoint that a training keeps there."""
    kept = checkpoint.standing(folder / KEPT)
    return (
        kept
        if kept.is_dir() and not (folder / reader.NAME).is_file()
        else checkpoint.standing(folder)
    )


def _tokenizer(folder: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer of a folder of transformers, which may have fewer tokens than its model.

    Tables of tokens are often padded to a size that multiplies well.
    """
    if not (folder / tokenizer.FILE).is_file():
        return None
    found = tokenizer.read(folder)
    if found.vocab_size > vocab_size:
        raise QuestionError(
            f"the tokenizer of '{folder}' has {found.vocab_size:,} tokens, but its model "
            f"{vocab_size:,}: they do not belong together."
        )
    return found


def _opening(found: Tokenizer | None, fields: dict[str, Any]) -> tuple[int, ...]:
    """The token that begins a text, where the tokenizer puts one in front of it (Llama's does)."""
    if not isinstance(found, Subwords):
        return ()
    first: list[int] = found.wrapped.encode("", add_special_tokens=True).ids[:1]
    return tuple(first) if first and first[0] == fields.get("bos_token_id") else ()


def _endings(fields: dict[str, Any]) -> frozenset[int]:
    """The tokens that end a text: one, several or none."""
    given = fields.get("eos_token_id")
    ids = given if isinstance(given, list) else [given]
    return frozenset(token for token in ids if isinstance(token, int))
