"""Real text as token ids: a byte is a token.

Text rather than random ids, because embedding look-ups and their gradients cost what the
frequencies of real text make them cost; never zeros, which multiply faster than numbers do.
"""

import sysconfig
from pathlib import Path

import torch
from torch import Tensor

from gptbench.config import ModelConfig, Workload
from gptbench.errors import QuestionError

# Batches that take turns in a window, so that no step finds its own input in a cache.
ROTATION = 8

# As much text as offsets are drawn from; more would only cost memory.
ENOUGH_BYTES = 1 << 24


def batches(
    config: ModelConfig, work: Workload, source: str | None, seed: int, device: torch.device
) -> Tensor:
    """Token ids [ROTATION, grad_accum·B, T + 1] on the device, cut from the text at seeded random places.

    The ids are bytes modulo the vocabulary's size. Raises QuestionError where the text is too
    short for one sequence or cannot be read.
    """
    text = read_text(source)
    length = work.seq_len + 1
    if len(text) < length:
        raise QuestionError(
            f"the text of --data {source!r} has {len(text)} bytes, fewer than one sequence of "
            f"{length} tokens needs. Give a longer file, or a smaller --seq-len."
        )
    corpus = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    random = torch.Generator().manual_seed(seed)
    in_a_step = work.grad_accum * work.batch_size
    starts = torch.randint(0, len(text) - length + 1, (ROTATION * in_a_step,), generator=random)
    ids = torch.stack([corpus[s : s + length] for s in starts.tolist()]).long()
    return (ids % config.vocab_size).view(ROTATION, in_a_step, length).to(device)


def read_text(source: str | None) -> bytes:
    """The first 16 MiB of a file, or of the Python standard library's own source."""
    if source is None:
        return _standard_library()
    try:
        with Path(source).open("rb") as file:
            return file.read(ENOUGH_BYTES)
    except OSError as error:
        raise QuestionError(f"cannot read --data '{source}': {error.strerror}.") from error


def _standard_library() -> bytes:
    folder = Path(sysconfig.get_path("stdlib"))
    text = bytearray()
    for file in sorted(folder.glob("*.py")):
        text += file.read_bytes()
        if len(text) >= ENOUGH_BYTES:
            break
    return bytes(text[:ENOUGH_BYTES])
