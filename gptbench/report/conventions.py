"""The table of conventions: one model as other people count it."""

from gptbench import conventions
from gptbench.config import ModelConfig, Workload
from gptbench.report.table import Column, Quantity, Table, scaled

LETTERS = (
    "P parameters that a token meets, M weights that multiply it, the head's among them.",
    "L layers of width D, N heads of size H, T tokens a sequence, V words (V', P': padded to 128s).",
)


def counts(model: ModelConfig, work: Workload) -> Table:
    """FLOPs per token of a step as other people count them, against the exact count."""
    found = conventions.counts(model, work)
    rows = tuple(
        (
            c.key,
            scaled(found[c.key]),
            Quantity(found[c.key] / found["exact"], f"{found[c.key] / found['exact']:.3f}"),
            c.formula,
            c.source,
        )
        for c in conventions.TABLE
    )
    third = () if work.mode == "train" else ("A forward pass alone is a third of the formula.",)
    return Table(
        title=f"{model.name}: FLOPs per token as others count them",
        columns=(
            Column("convention"),
            Column("FLOPs", right=True),
            Column("ratio", right=True),
            Column("formula"),
            Column("source", wraps=True, spare=True),
        ),
        rows=rows,
        notes=(
            *LETTERS,
            *third,
            *_own_rules(model, work),
            "MFU scales with the ratio: compare it only under one convention.",
        ),
    )


def _own_rules(model: ModelConfig, work: Workload) -> tuple[str, ...]:
    """A note where the formulas, which are those of a plain model, do not give the numbers."""
    kinds = (
        ("experts", model.n_experts > 0),
        ("windows", any(model.windows)),
        ("a head of its own", not model.tied_head),
        ("latent attention", model.kv_rank > 0),
        ("packed sequences", len(work.lengths) > 1),
        (f"mode {work.mode}", work.mode in ("prefill", "decode")),
    )
    found = [name for name, there in kinds if there]
    if not found:
        return ()
    note = (
        "The formulas are those of a dense model with a tied head that sees everything. For "
        f"{', '.join(found)} each number follows its program's own rule, or the ledger."
    )
    return (note,)
