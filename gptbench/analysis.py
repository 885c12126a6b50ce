"""All that is counted about a model and a workload, under the keys that `gptbench flops` publishes."""

from dataclasses import asdict
from typing import Any

from gptbench import conventions, flops, roofline
from gptbench.config import ModelConfig, Workload
from gptbench.roofline import Roofs


def document(model: ModelConfig, work: Workload, roofs: Roofs | None = None) -> dict[str, Any]:
    """The published JSON: counts per step, per token, per component and per layer.

    `components` are of one batch; `flops` of the step, which may add up the gradients of several.
    """
    return {
        "model": asdict(model),
        "workload": {**asdict(work), "tokens": work.tokens},
        "parameters": flops.counted(flops.parameters(model)),
        "flops": flops.costed(flops.step_flops(model, work)),
        "components": _components(model, work),
        "layers": _layers(model, work),
        "traffic": [_traffic(part, roofs) for part in roofline.traffic(model, work)],
        "roofs": None if roofs is None else {**asdict(roofs), "ridge": roofs.ridge},
        "conventions": conventions.counts(model, work),
        "formulas": {c.key: {"formula": c.formula, "source": c.source} for c in conventions.TABLE},
        "checks": [],
    }


def _components(model: ModelConfig, work: Workload) -> list[dict[str, Any]]:
    rows = flops.matmuls(model, work)
    again = {row.name for row in flops.recomputed(rows, work)}
    moved = {part.name: part for part in roofline.traffic(model, work)}
    products = [
        {
            "name": row.name,
            "count": row.count,
            "m": row.m,
            "k": row.k,
            "n": row.n,
            "forward": row.flops,
            "forward_causal": row.causal_flops,
            "backward": 2 * row.flops if work.mode == "train" else 0,
            "recompute": row.flops if row.name in again else 0,
            "parameters": row.parameters,
            "bytes": moved[row.name].moved_bytes,
            "intensity": moved[row.name].intensity,
        }
        for row in rows
    ]
    tables = [
        {
            "name": v.name,
            "count": v.count,
            "forward": 0,
            "backward": 0,
            "parameters": v.parameters,
        }
        for v in flops.vectors(model)
    ]
    return products + tables


def _layers(model: ModelConfig, work: Workload) -> list[dict[str, Any]]:
    """FLOPs and matrix parameters of each layer, counted from 0."""
    found = []
    for index in range(model.n_layers):
        rows = flops.layer(model, work, index)
        forward = flops.forward_flops(rows)
        found.append(
            {
                "layer": index,
                "window": model.window(index),
                "moe": model.is_moe(index),
                "forward": forward,
                "backward": 2 * forward if work.mode == "train" else 0,
                "recompute": flops.forward_flops(flops.recomputed(rows, work)),
                "parameters": sum(row.parameters for row in rows),
            }
        )
    return found


def _traffic(part: roofline.Traffic, roofs: Roofs | None) -> dict[str, Any]:
    counted = {
        "name": part.name,
        "flops": part.flops,
        "bytes": part.moved_bytes,
        "intensity": part.intensity,
    }
    if roofs is None:
        return counted
    return {**counted, "bound": roofs.bound(part), "least_time_s": roofs.least_time_s(part)}
