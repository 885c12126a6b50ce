"""Text to token ids and back: characters, bytes, or pairs of bytes merged by their frequency (BPE).

All three are kept as one `tokenizer.json` in the format of the tokenizers library, so that others
read what is written here, and what others wrote is read here.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from gptbench import outputs
from gptbench.corpus import BPE_SIZE
from gptbench.errors import QuestionError

FILE = "tokenizer.json"

# Every byte is a token of its own, so that there is no text that has none.
BYTES = 256


class Tokenizer(Protocol):
    """A vocabulary, and the ways in and out of it."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are: from 0 to one less."""

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises QuestionError for what the vocabulary has no token for."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; bytes that are no UTF-8 become U+FFFD."""

    def save(self, folder: Path) -> None:
        """Write tokenizer.json, which `read` reads."""


class Characters:
    """A character is a token: the ids are its places in the sorted alphabet of a text."""

    def __init__(self, alphabet: Iterable[str]) -> None:
        self._characters = sorted(set(alphabet))
        self._ids = {character: at for at, character in enumerate(self._characters)}

    @property
    def vocab_size(self) -> int:
        return len(self._characters)

    def encode(self, text: str) -> list[int]:
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            raise QuestionError(
                f"the character {error.args[0]!r} is not among the {self.vocab_size} of this "
                "tokenizer: it was not in the text that it was made from."
            ) from error

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._characters[at] for at in ids)

    def save(self, folder: Path) -> None:
        # The token for what is unknown is not in the vocabulary: nothing is silently replaced.
        library = tokenizers.Tokenizer(models.WordLevel(self._ids, unk_token="<unk>"))  # noqa: S106
        library.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
        library.decoder = decoders.Fuse()
        _write(library, folder)


class Bytes:
    """A byte of UTF-8 is a token: 256 of them, whatever the text."""

    vocab_size = BYTES

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def save(self, folder: Path) -> None:
        names = {name: byte for byte, name in enumerate(_names_of_bytes())}
        library = _of_bytes(models.BPE(vocab=names, merges=[]), words=False)
        _write(library, folder)


class Subwords:
    """Pieces of words, as a tokenizer of the library makes them; no special token is added."""

    def __init__(self, library: Any) -> None:
        self.wrapped = library

    @property
    def vocab_size(self) -> int:
        size: int = self.wrapped.get_vocab_size()
        return size

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.wrapped.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.wrapped.decode(list(ids), skip_special_tokens=False)
        return text

    def save(self, folder: Path) -> None:
        _write(self.wrapped, folder)


def train(kind: str, texts: Iterable[str], size: int = BPE_SIZE) -> Tokenizer:
    """A tokenizer of a kind ('char', 'byte', 'bpe') made from texts; `size` is for BPE alone.

    BPE is that of GPT-2 (Radford et al. 2019, section 2.2): of bytes, within words.
    """
    if kind == "char":
        return Characters(character for text in texts for character in set(text))
    if kind == "byte":
        return Bytes()
    library = _of_bytes(models.BPE(), words=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    library.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False),
    )
    return Subwords(library)


def read(folder: Path) -> Tokenizer:
    """The tokenizer of a folder's tokenizer.json. Raises QuestionError where it does not read."""
    path = folder / FILE
    try:
        library = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise QuestionError(f"cannot read the tokenizer '{path}': {error.strerror}.") from error
    except Exception as error:  # the library raises nothing narrower
        raise QuestionError(f"'{path}' is no tokenizer that reads: {error}.") from error
    vocabulary: dict[str, int] = library.get_vocab()
    if isinstance(library.model, models.WordLevel) and all(len(word) == 1 for word in vocabulary):
        found = Characters(vocabulary)
        if found.encode("".join(vocabulary)) == list(vocabulary.values()):
            return found
    if vocabulary == {name: byte for byte, name in enumerate(_names_of_bytes())}:
        return Bytes()
    return Subwords(library)


def _of_bytes(model: Any, *, words: bool) -> Any:
    """A tokenizer of the library over bytes, with spaces kept as they are; cut into words or not."""
    library = tokenizers.Tokenizer(model)
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    library.decoder = decoders.ByteLevel()
    return library


def _names_of_bytes() -> Iterator[str]:
    """A visible character for each byte, as GPT-2's vocabulary writes it.

    Bytes that are printable characters of Latin-1 are those; the others take those from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = 0
    for byte in range(BYTES):
        if byte in printable:
            yield chr(byte)
        else:
            yield chr(0x100 + hidden)
            hidden += 1


def _write(library: Any, folder: Path) -> None:
    outputs.write_whole(folder / FILE, library.to_str(pretty=True) + "\n")
