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
            "MFU scales with the ratio: compare it only under one convention.",
        ),
    )
