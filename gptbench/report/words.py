"""A workload in words."""

from gptbench.config import Workload
from gptbench.own import OwnModule
from gptbench.record import Record

RECOMPUTED = {"attention": ", attention recomputed", "block": ", blocks recomputed"}


def tokens(work: Workload) -> str:
    """What one step reads: '8 × 1024 tokens', '4 × (8 × 1024 tokens)' with accumulation."""
    if work.mode == "decode":
        return f"{work.batch_size} × 1 token against {work.seq_len} keys"
    row = f"({_packed(work)})" if work.seq_lens else str(work.seq_len)
    batch = f"{work.batch_size} × {row} tokens"
    return f"{work.grad_accum} × ({batch})" if work.grad_accum > 1 else batch


def _packed(work: Workload) -> str:
    """'512+300+212', or where they are many '64 sequences, 8192'."""
    lengths = work.seq_lens
    return (
        "+".join(map(str, lengths))
        if len(lengths) <= 4
        else f"{len(lengths)} sequences, {sum(lengths)}"
    )


def workload(work: Workload) -> str:
    """'train, 8 × 1024 tokens, bfloat16 (autocast), fused attention'."""
    again = RECOMPUTED.get(work.recompute, "")
    attention = f"{work.attention} attention{again}"
    return f"{work.mode}, {tokens(work)}, {_dtype(work)}, {attention}{_compiled(work)}"


def setting(rec: Record) -> str:
    """The workload of a record; of someone's own module with all that it is given.

    'train, 8x1024:int64, mask=8x1024:bool, bfloat16 (autocast)'
    """
    if not isinstance(rec.model, OwnModule):
        return workload(rec.workload)
    return own(rec.model, rec.workload)


def own(module: OwnModule, work: Workload) -> str:
    """The workload of someone's own module."""
    given = ", ".join(map(str, module.inputs))
    return f"{work.mode}, {given}, {_dtype(work)}{_compiled(work)}"


def rate(rec: Record) -> str:
    """'tokens/s', or 'samples/s' where a model's first input is no token ids."""
    return f"{rec.model.unit}s/s"


def _dtype(work: Workload) -> str:
    kind = "TF32" if work.tf32 else work.dtype
    return f"{kind} (autocast)" if work.autocast else kind


def _compiled(work: Workload) -> str:
    return ", compiled" if work.compile else ""


def ending(loss: str) -> tuple[str, ...]:
    """What a step of someone's own module ends in, where it was gptbench that chose."""
    chosen = loss.startswith(("next", "mean"))
    return (f"The step ends in the {loss}.",) if chosen else ()
