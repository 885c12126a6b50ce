"""The tables of an analysis: the ledger, and other tools' counts of the same."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gptbench import flops
from gptbench.config import ModelConfig, Workload
from gptbench.report.table import DASH, Cell, Column, Table, count, scaled, share
from gptbench.units import grouped, si

CONVENTION = (
    "A multiply-add is 2 FLOPs. Attention counted in full (no causal halving). No recompute."
)


def ledger(model: ModelConfig, work: Workload) -> Table:
    """Every matrix product of a step, the tables beside them, and what they add up to."""
    rows = flops.matmuls(model, work)
    cost = flops.step_flops(model, work)
    total = flops.parameters(model).total
    body = [_ledger_row(row, cost.forward) for row in rows]
    body += [
        (v.name, f"{v.count} × [{v.size}]", count(v.parameters), DASH, DASH)
        for v in flops.vectors(model)
        if v.parameters
    ]
    totals = _ledger_totals(cost, total)
    step = f", {grouped(cost.step)} a training step" if cost.backward else ""
    return Table(
        title=f"{model.name}, {work.batch_size} × {work.seq_len} tokens, "
        f"{grouped(total)} parameters",
        columns=(
            Column("matmul"),
            Column("products"),
            Column("parameters", right=True),
            Column("FLOPs", right=True),
            Column("share", right=True),
        ),
        rows=(*body, *totals),
        notes=(
            CONVENTION,
            f"Exactly {grouped(cost.forward)} FLOPs forward{step}.",
        ),
        total_rows=len(totals),
    )


def _ledger_row(row: flops.Matmul, forward: int) -> tuple[Cell, ...]:
    parameters: Cell = count(row.parameters) if row.parameters else DASH
    if row.name == "unembed" and not row.parameters:
        parameters = "tied"
    return (
        row.name,
        f"{row.count} × [{row.m}, {row.k}, {row.n}]",
        parameters,
        scaled(row.flops),
        share(row.flops / forward),
    )


def _ledger_totals(cost: flops.StepFlops, parameters: int) -> list[tuple[Cell, ...]]:
    per_token = f"{si(cost.per_token)} per token"
    forward = "" if cost.backward else per_token
    rows: list[tuple[Cell, ...]] = [
        ("forward", forward, count(parameters), scaled(cost.forward), share(1.0))
    ]
    if cost.backward:
        rows += [
            ("backward", "twice the forward", "", scaled(cost.backward), ""),
            ("training step", per_token, "", scaled(cost.step), ""),
        ]
    return rows


def pointing_to_conventions(table: Table) -> Table:
    """The ledger with a last line that says where other people's counts are."""
    return replace(table, notes=(*table.notes, "'--conventions' shows how others count the same."))


def checks(found: Sequence[dict[str, Any]]) -> Table:
    """Other tools' counts held to the ledger's; one that differs is followed by its operators."""
    rows: list[tuple[Cell, ...]] = []
    for check in found:
        what = (check["tool"], check["attention"], check["direction"])
        rows.append((*what, count(check["flops"]), count(check["difference"])))
        if check["difference"]:
            rows += [
                (f"  {o['operator']}", "", "", count(o["flops"]), count(o["difference"]))
                for o in check["operators"]
            ]
    differing = sum(bool(check["difference"]) for check in found)
    verdict = (
        f"{differing} of {len(found)} counts differ from the ledger."
        if differing
        else f"All {len(found)} counts agree with the ledger to the last FLOP."
    )
    return Table(
        title="Cross-check of the ledger",
        columns=(
            Column("tool", wraps=True),
            Column("attention"),
            Column("pass"),
            Column("FLOPs", right=True),
            Column("difference", right=True),
        ),
        rows=tuple(rows),
        notes=(verdict,),
    )
