"""A text as a model reads it: what a worker is asked to make of a source, and what it made."""

from dataclasses import dataclass
from typing import Literal

from gptbench.errors import QuestionError

TokenizerKind = Literal["char", "byte", "bpe"]

# Tokens of a BPE vocabulary where nobody says.
BPE_SIZE = 4096

# A byte each: BPE begins with them and merges.
LEAST_BPE_SIZE = 256

# Ids are kept in 32 bits.
MOST_BPE_SIZE = 1 << 24

ALGEBRA_LINES = 100_000

# There are 18 million different lines: finding the last of them by chance would take for ever.
MOST_ALGEBRA_LINES = 10_000_000

# The part of a text that is kept for validation, where the source has none of its own.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where text is from: a file or folder `name`, a data set `name`, or lines of arithmetic."""

    kind: Literal["path", "algebra", "datasets"]
    name: str = ""
    lines: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusTask:
    """Asks a worker for the tokens of a source, in a folder beneath `cache`.

    `tokenizer_size` is the most tokens of a BPE vocabulary; other kinds have none to choose.
    """

    source: Source
    tokenizer: TokenizerKind
    tokenizer_size: int
    seed: int
    cache: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """A text as tokens, those for training first; `key` says which text and tokenizer.

    They are in the folder of that name beneath the cache of tokens.
    """

    key: str
    vocab_size: int
    train_tokens: int
    validation_tokens: int


def parse_source(text: str) -> Source:
    """'notes.txt', 'algebra:1000' or 'datasets:NAME'. Raises QuestionError for a wrong count."""
    kind, _, rest = text.partition(":")
    if kind == "algebra":
        return Source(
            kind="algebra", lines=_count(text, rest, ALGEBRA_LINES, 2, MOST_ALGEBRA_LINES)
        )
    if kind == "datasets":
        if not rest:
            raise QuestionError("--data 'datasets:' names no data set. Type datasets:NAME.")
        return Source(kind="datasets", name=rest)
    return Source(kind="path", name=text)


def parse_tokenizer(text: str) -> tuple[TokenizerKind, int]:
    """'char', 'byte', 'bpe' or 'bpe:1000', as kind and size. Raises QuestionError otherwise."""
    kind, _, rest = text.partition(":")
    if kind == "bpe":
        return "bpe", _count(text, rest, BPE_SIZE, LEAST_BPE_SIZE, MOST_BPE_SIZE)
    if kind == "char" and not rest:
        return "char", 0
    if kind == "byte" and not rest:
        return "byte", 0
    raise QuestionError(f"unknown tokenizer {text!r}. Type char, byte, bpe or bpe:SIZE.")


def _count(text: str, digits: str, default: int, least: int, most: int) -> int:
    if not digits and not text.endswith(":"):
        return default
    if not digits.isdecimal() or not least <= int(digits) <= most:
        raise QuestionError(
            f"{text!r} does not end in a number from {least:,} to {most:,}. "
            f"Type {text.partition(':')[0]}:{default}."
        )
    return int(digits)
