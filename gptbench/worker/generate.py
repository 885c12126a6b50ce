"""Text from a checkpoint, told piece by piece."""

import time
from collections.abc import Callable, Generator
from pathlib import Path

import torch

from gptbench.errors import QuestionError
from gptbench.generation import Generated, GenerateTask, Piece, Written
from gptbench.worker import continuation, detect, onednn, pretrained
from gptbench.worker.continuation import Continuation
from gptbench.worker.pretrained import Pretrained
from gptbench.worker.tokenizer import Tokenizer
from gptbench.worker.transcript import Transcript

# What is being done, and the seconds it will take; 0 where nobody knows.
Progress = Callable[[str, float], None]


def generate(task: GenerateTask, progress: Progress) -> Generator[Piece, None, Generated]:
    """Pieces of text as they come; in the end, what it all was.

    Raises QuestionError for what cannot be loaded, and for a prompt that is empty, longer than the
    context or of characters that the vocabulary lacks; UnavailableError where there is no such
    device.
    """
    device = detect.chosen(task.device)
    progress("loading the model", 0.0)
    began = time.perf_counter()
    dtype = getattr(torch, task.dtype)
    loaded = pretrained.load(Path(task.checkpoint), device, dtype, task.attention)
    onednn.reading(loaded.model)
    texts = _texts(task, loaded)
    load_s = time.perf_counter() - began

    began = time.perf_counter()
    first_token_s = 0.0
    sequences = [text.tokens for text in texts]
    for _ in continuation.steps(loaded.model, sequences, task.sampling, keep=task.cache):
        first_token_s = first_token_s or time.perf_counter() - began
        for number, text in enumerate(texts):
            piece = text.grown()
            if piece:
                yield Piece(sequence=number, text=piece)
    return Generated(
        model=loaded.model.config.name,
        device=str(device),
        sequences=tuple(text.written() for text in texts),
        first_token_s=first_token_s,
        decode_s=time.perf_counter() - began - first_token_s,
        load_s=load_s,
    )


class _Text:
    """A sequence as text: what was told of it."""

    def __init__(
        self, prompt: str, seed: int, tokens: Continuation, transcript: Transcript
    ) -> None:
        self.tokens = tokens
        self._prompt, self._seed, self._transcript = prompt, seed, transcript
        self._prompt_tokens = self._seen = len(tokens.ids)
        self._told: list[str] = []

    def grown(self) -> str:
        """What can be told of the tokens that have come since."""
        piece = ""
        fresh, self._seen = self.tokens.ids[self._seen :], len(self.tokens.ids)
        for token in fresh:
            # The token that ends a text is none of it.
            if self.tokens.end != "end of text":
                piece += self._transcript.add(token)
        if self._transcript.stopped:
            self.tokens.end = "stop"
        if fresh and self.tokens.end is not None:
            piece += self._transcript.close()
        self._told.append(piece)
        return piece

    def written(self) -> Written:
        """What it was, once it has ended."""
        assert self.tokens.end is not None
        return Written(
            prompt=self._prompt,
            seed=self._seed,
            text="".join(self._told),
            prompt_tokens=self._prompt_tokens,
            tokens=len(self.tokens.ids) - self._prompt_tokens,
            end=self.tokens.end,
            forgotten=self.tokens.forgotten,
        )


def _texts(task: GenerateTask, loaded: Pretrained) -> list[_Text]:
    """Each prompt, as often as it is asked for."""
    if loaded.tokenizer is None:
        raise QuestionError(
            f"'{task.checkpoint}' has no tokenizer.json, which makes tokens of a text. Save it there: "
            "transformers' AutoTokenizer does with save_pretrained."
        )
    texts = []
    for prompt in task.prompts:
        ids = _ids(prompt, loaded, loaded.tokenizer)
        for seed in range(task.seed, task.seed + task.samples):
            tokens = Continuation(loaded.model, ids, task.tokens, seed, loaded.endings)
            transcript = Transcript(loaded.tokenizer, ids, task.stop)
            texts.append(_Text(prompt, seed, tokens, transcript))
    return texts


def _ids(prompt: str, loaded: Pretrained, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a prompt, behind those that open every text."""
    ids = [*loaded.opening, *tokenizer.encode(prompt)]
    if not ids:
        raise QuestionError(
            "the prompt is empty, and a model goes on with something. Type a --prompt."
        )
    context = loaded.model.config.n_ctx
    if len(ids) > context:
        raise QuestionError(
            f"the prompt has {len(ids):,} tokens, over the context of {loaded.model.config.name!r}, "
            f"which is {context:,}. Type a shorter one."
        )
    return ids
