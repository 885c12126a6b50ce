"""The published JSON of a count: its keys, and that its parts add up."""

import pytest
from architectures import models, workloads
from hypothesis import given, settings

from gptbench import analysis, conventions, device, presets, roofline
from gptbench.config import Workload

SMALL = presets.load("gpt2-small")
STEP = Workload(batch_size=1, seq_len=1024)


@pytest.mark.parametrize(
    "path",
    [
        "model.name",
        *(f"parameters.{k}" for k in ["total", "non_embedding", "active"]),
        *(f"flops.{k}" for k in ["forward", "backward", "recompute", "step", "per_token"]),
        *(f"conventions.{c.key}" for c in conventions.TABLE),
        "components",
        "layers",
        "traffic",
        "checks",
    ],
)
def test_a_flop_count_keeps_the_keys_that_others_rely_on(path):
    value = analysis.document(SMALL, STEP)
    for key in path.split("."):
        value = value[key]
    assert value is not None


def test_components_of_gpt2_small_sum_to_its_totals():
    rows = analysis.document(SMALL, STEP)["components"]
    # nanoGPT's notebook; sum(p.numel()) of the released checkpoint.
    assert sum(r["forward"] for r in rows) == 291_648_307_200
    assert sum(r["backward"] for r in rows) == 583_296_614_400
    assert sum(r["parameters"] for r in rows) == 124_439_808


@settings(max_examples=50)
@given(models(), workloads())
def test_components_of_a_batch_sum_to_the_step(model, work):
    found = analysis.document(model, work)
    for key in ("forward", "backward"):
        parts = sum(row[key] for row in found["components"])
        assert work.grad_accum * parts == found["flops"][key]
    again = sum(row.get("recompute", 0) for row in found["components"])
    assert work.grad_accum * again == found["flops"]["recompute"]


@settings(max_examples=50)
@given(models(), workloads())
def test_layers_sum_to_the_components_of_the_layers(model, work):
    found = analysis.document(model, work)
    around = ("embed", "unembed")
    inside = [row for row in found["components"] if not row["name"].startswith(around)]
    for key in ("forward", "backward"):
        assert sum(layer[key] for layer in found["layers"]) == sum(row[key] for row in inside)


def test_parts_are_under_a_roof_where_a_device_is_named():
    found = analysis.document(SMALL, STEP, roofline.roofs(device.find("t4", device.table()), None))
    assert {part["bound"] for part in found["traffic"]} == {"compute", "memory"}
    assert found["roofs"]["device"] == "t4"
