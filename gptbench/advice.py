"""What would make a step fit: the same workload with one option changed, or all of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from gptbench import memory
from gptbench.config import ModelConfig, Workload
from gptbench.units import gib

SHORTEST = 16


def what_would_fit(model: ModelConfig, work: Workload, limit_bytes: int) -> str:
    """A sentence: which options are predicted to bring batch `work.batch_size` below the limit.

    Where the workload itself was predicted to fit and did not, an option has to save a fifth.
    """
    room = min(limit_bytes, 0.8 * memory.footprint(model, work).total)

    def fits(changed: Workload) -> bool:
        return memory.footprint(model, changed).total <= room

    single = [(option, changed) for option, changed in _savings(work) if fits(changed)]
    options = [option for option, _ in single]
    shorter = _longest(work, fits)
    if shorter is not None:
        options.append(f"--seq-len {shorter}")
    if options:
        return f"Predicted to fit: {', or '.join(options)}."
    everything, typed = work, []
    for option, _ in _savings(work):
        changed = dict(_savings(everything)).get(option)
        if changed is not None:
            everything = changed
            typed.append(option)
    shorter = work.seq_len if fits(everything) else _longest(everything, fits)
    if shorter is not None:
        typed += [f"--seq-len {shorter}"] if shorter != work.seq_len else []
        return f"Predicted to fit: {' '.join(typed)}, all together."
    least = memory.footprint(model, replace(everything, seq_len=SHORTEST)).total
    return (
        f"No option makes this model fit, which takes {gib(least)} at the least. "
        "Type a smaller model, or a larger --memory-limit."
    )


def _savings(work: Workload) -> Iterator[tuple[str, Workload]]:
    """Options that save memory and leave the number of tokens as it is."""
    if work.attention == "math":
        yield "--attention fused", replace(work, attention="fused")
    if work.mode == "train" and work.recompute != "block":
        yield "--recompute block", replace(work, recompute="block")
    if work.autocast or work.dtype == "float32":
        dtype = "bfloat16" if work.dtype == "float32" else work.dtype
        smaller = replace(work, dtype=dtype, autocast=False, tf32=False)
        yield f"--dtype {dtype} --pure", smaller


def _longest(work: Workload, fits: Callable[[Workload], bool]) -> int | None:
    """The largest half, quarter, ... of the sequence that fits; None where SHORTEST does not."""
    seq_len = work.seq_len // 2
    while seq_len >= SHORTEST:
        if fits(replace(work, seq_len=seq_len)):
            return seq_len
        seq_len //= 2
    return None
