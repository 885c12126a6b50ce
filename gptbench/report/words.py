"""A workload in words."""

from gptbench.config import Workload

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
    return f"{work.mode}, {tokens(work)}, {dtype(work)}, {attention}{compiled(work)}"


def dtype(work: Workload) -> str:
    """What multiplies: 'bfloat16 (autocast)'."""
    kind = "TF32" if work.tf32 else work.dtype
    return f"{kind} (autocast)" if work.autocast else kind


def compiled(work: Workload) -> str:
    """The end of a sentence about a workload that torch.compile compiles."""
    return ", compiled" if work.compile else ""
