"""How many lines of arithmetic a model solves: the share of answers that are right to the last digit."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from gptbench.worker.model import GPT
from gptbench.worker.tokenizer import Tokenizer

# Ids in which there is a line, however they are made: characters are the most.
LONGEST_LINE = 64


def lines(ids: npt.NDArray[Any], tokenizer: Tokenizer, most: int, context: int) -> list[str]:
    """Of at most so many of the first whole lines of a text, those that a context has room for."""
    text = tokenizer.decode(ids[: most * LONGEST_LINE].tolist())
    first = text.split("\n")[:-1][:most]
    return [line for line in first if len(tokenizer.encode(f"{line}\n")) <= context]


@dataclass(frozen=True, slots=True)
class _Exercise:
    """Tokens that are given, how many follow in the text, and the characters that they are."""

    given: list[int]
    follow: int
    answer: str


def _exercise(line: str, tokenizer: Tokenizer) -> _Exercise:
    """A line, cut where its question ends; a token that has a part of the answer is not given."""
    ids = tokenizer.encode(f"{line}\n")
    asked = len(line.partition("=")[0]) + 1
    given = next(n for n in range(len(ids), -1, -1) if len(tokenizer.decode(ids[:n])) <= asked)
    told = len(tokenizer.decode(ids[:given]))
    return _Exercise(ids[:given], len(ids) - given, f"{line[told:]}\n")


@torch.no_grad()
def exact_match(
    model: GPT, tokenizer: Tokenizer, lines: Sequence[str], device: torch.device
) -> float:
    """The share of lines such as '12+7=19' that the model ends as they end.

    It is given what stands before the answer, and then says the likeliest token, one after another.
    """
    by_length: dict[int, list[_Exercise]] = defaultdict(list)
    for line in lines:
        exercise = _exercise(line, tokenizer)
        by_length[len(exercise.given)].append(exercise)
    training = model.training
    model.eval()
    solved = 0
    for alike in by_length.values():
        asked = torch.tensor([exercise.given for exercise in alike], device=device)
        said = _continued(model, asked, max(exercise.follow for exercise in alike)).tolist()
        for ids, exercise in zip(said, alike, strict=True):
            solved += tokenizer.decode(ids).startswith(exercise.answer)
    model.train(training)
    return solved / len(lines)


def _continued(model: GPT, tokens: Tensor, count: int) -> Tensor:
    """The likeliest tokens one after another, each with all before it read again."""
    start = tokens.shape[1]
    for _ in range(count):
        newest = model(tokens)[:, -1:].argmax(dim=-1)
        tokens = torch.cat((tokens, newest), dim=1)
    return tokens[:, start:]
