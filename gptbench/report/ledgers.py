"""The tables of an analysis: the ledger, and other tools' counts of the same."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gptbench import flops
from gptbench.config import ModelConfig, Workload
from gptbench.report import words
from gptbench.report.table import DASH, Cell, Column, Table, count, scaled, share
from gptbench.units import grouped, si

CONVENTION = "A multiply-add is 2 FLOPs. Attention counted in full (no causal halving)."

RECOMPUTED = {
    "none": "No recompute.",
    "attention": "Attention's core is run again in the backward pass.",
    "block": "Every layer is run again in the backward pass.",
}


def ledger(model: ModelConfig, work: Workload) -> Table:
    """Every matrix product of a step, the tables beside them, and what they add up to."""
    rows = flops.matmuls(model, work)
    cost = flops.step_flops(model, work)
    found = flops.parameters(model)
    batch = flops.forward_flops(rows)
    body = [_ledger_row(row, batch) for row in rows]
    body += [
        (v.name, f"{v.count} × [{v.size}]", count(v.parameters), DASH, DASH)
        for v in flops.vectors(model)
    ]
    totals = _ledger_totals(cost, found.total, work)
    step = f", {grouped(cost.step)} a training step" if cost.backward else ""
    if cost.recompute:
        step += f", {grouped(cost.hardware)} with recompute"
    active = f"A token meets {grouped(found.active)} of the {grouped(found.total)} parameters."
    return Table(
        title=f"{model.name}, {words.tokens(work)}, {grouped(found.total)} parameters",
        columns=(
            Column("matmul"),
            Column("products"),
            Column("parameters", right=True),
            Column("FLOPs", right=True),
            Column("share", right=True),
        ),
        rows=(*body, *totals),
        notes=(
            f"{CONVENTION} {RECOMPUTED[work.recompute]}",
            *_masked(model, work),
            *_left_out(model, work),
            *((active,) if found.active != found.total else ()),
            f"Exactly {grouped(cost.forward)} FLOPs forward{step}.",
        ),
        total_rows=len(totals),
    )


def _masked(model: ModelConfig, work: Workload) -> tuple[str, ...]:
    """What the rows of this model and workload are not."""
    notes = []
    if any(model.windows) and work.mode != "decode":
        notes.append("Windows are masks: while tokens are read they too are counted in full.")
    if work.grad_accum > 1:
        notes.append(f"The rows are of one of the {work.grad_accum} batches of a step.")
    return tuple(notes)


def _left_out(model: ModelConfig, work: Workload) -> tuple[str, ...]:
    """What PyTorch's own checkpoint does not run of what is counted as recomputed."""
    skipped = flops.early_stopped(model, work)
    if not skipped:
        return ()
    note = (
        "Recomputed parts are counted whole, as papers do; PyTorch's checkpoint leaves out their "
        f"last product, {grouped(skipped)} FLOPs, which nothing needs."
    )
    return (note,)


def _ledger_row(row: flops.Matmul, batch: int) -> tuple[Cell, ...]:
    parameters: Cell = count(row.parameters) if row.parameters else DASH
    if row.name == "unembed" and not row.parameters:
        parameters = "tied"
    experts = f", {row.weights // row.count} experts" if row.weights > row.count else ""
    return (
        row.name,
        f"{row.count} × [{row.m}, {row.k}, {row.n}]{experts}",
        parameters,
        scaled(row.flops),
        share(row.flops / batch),
    )


def _ledger_totals(
    cost: flops.StepFlops, parameters: int, work: Workload
) -> list[tuple[Cell, ...]]:
    per_token = f"{si(cost.per_token)} per token"
    batches = f"{work.grad_accum} batches" if work.grad_accum > 1 else ""
    forward = batches if cost.backward else per_token
    rows: list[tuple[Cell, ...]] = [
        ("forward", forward, count(parameters), scaled(cost.forward), share(1.0))
    ]
    if cost.backward:
        rows += [
            ("backward", "twice the forward", "", scaled(cost.backward), ""),
            ("training step", per_token, "", scaled(cost.step), ""),
        ]
    if cost.recompute:
        again = "the forward pass of " + (
            "attention" if work.recompute == "attention" else "layers"
        )
        rows += [
            ("recompute", again, "", scaled(cost.recompute), ""),
            ("hardware", "step and recompute", "", scaled(cost.hardware), ""),
        ]
    return rows


def layers(model: ModelConfig, work: Workload) -> Table:
    """The matrix products of each layer; layers that are alike share a line."""
    alike: dict[tuple[flops.Matmul, ...], list[int]] = {}
    for index in range(model.n_layers):
        alike.setdefault(flops.layer(model, work, index), []).append(index)
    whole = flops.forward_flops(flops.matmuls(model, work))
    rows = tuple(
        (
            _ranges(indices),
            _kind(model, indices[0]),
            count(sum(row.parameters for row in same)),
            scaled(flops.forward_flops(same)),
            share(flops.forward_flops(same) / whole),
        )
        for same, indices in alike.items()
    )
    return Table(
        title=f"{model.name}: one layer",
        columns=(
            Column("layers", wraps=True),
            Column("kind"),
            Column("parameters", right=True),
            Column("forward FLOPs", right=True),
            Column("share", right=True),
        ),
        rows=rows,
        notes=("Each of the layers of a line; parameters are those of its matrix products.",),
    )


def _kind(model: ModelConfig, index: int) -> str:
    window = model.window(index)
    mlp = f"{model.top_k} of {model.n_experts} experts" if model.is_moe(index) else "dense"
    return f"{mlp}, window {window}" if window else mlp


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> '0–2, 5'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def pointing_to_conventions(table: Table) -> Table:
    """The ledger with a last line that says where other people's counts are."""
    return replace(table, notes=(*table.notes, "'--conventions' shows how others count the same."))


def checks(found: Sequence[dict[str, Any]], model: ModelConfig, work: Workload) -> Table:
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
        notes=(verdict, *_fused_kernel(model, work)),
    )


def _fused_kernel(model: ModelConfig, work: Workload) -> tuple[str, ...]:
    """Where a GPU's kernel legitimately differs: by how much, and why."""
    if work.mode != "train":
        return ()
    again = flops.fused_recompute(model, work)
    note = (
        "On the meta device fused attention is taken apart into its two products. A GPU's kernel "
        f"computes its scores again in the backward pass, {grouped(again)} FLOPs a step that are "
        "recompute and no model FLOPs: PyTorch's counter includes them there."
    )
    return (note,)
