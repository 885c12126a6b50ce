"""Bytes that a forward pass must move, with a pencil, and the roofs of a device."""

from dataclasses import replace

import pytest
from architectures import models, workloads
from hypothesis import given, settings

from gptbench import device, flops, presets, roofline
from gptbench.config import ModelConfig, Workload
from gptbench.errors import QuestionError, UnavailableError

SMALL = presets.load("gpt2-small")
STEP = Workload(batch_size=1, seq_len=1024, dtype="bfloat16")
DEVICES = device.table()


def moved(model, work):
    return {part.name: part.moved_bytes for part in roofline.traffic(model, work)}


def roofs(name, dtype=None):
    return roofline.roofs(device.find(name, DEVICES), dtype)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        # What each of 12 layers reads and writes, at 768 wide and 1024 tokens.
        ("attn.qkv", 12 * (1024 * 768 + 768 * 2304 + 1024 * 2304)),
        ("attn.out", 12 * (1024 * 768 + 768 * 768 + 1024 * 768)),
        ("mlp.up", 12 * (1024 * 768 + 768 * 3072 + 1024 * 3072)),
        # Fused: queries and keys in, and nothing out; then values in, and what they mix to.
        ("attn.scores", 12 * (1024 * 768 + 1024 * 768)),
        ("attn.values", 12 * (1024 * 768 + 1024 * 768)),
        ("unembed", 1024 * 768 + 768 * 50257 + 1024 * 50257),
        ("norms", 25 * 2 * 1024 * 768),
        ("loss", 1024 * 50257),
    ],
)
def test_a_part_of_gpt2_small_moves_what_a_pencil_says(name, numbers):
    assert moved(SMALL, STEP)[name] == 2 * numbers


def test_attention_written_out_moves_its_scores_four_times():
    # Written by the first product, read and written by the softmax, read by the second.
    fused, written = moved(SMALL, STEP), moved(SMALL, replace(STEP, attention="math"))
    assert sum(written.values()) - sum(fused.values()) == 2 * 4 * (12 * 12 * 1024 * 1024)


def test_heads_that_share_their_keys_read_them_once_in_decode():
    shared = ModelConfig(
        name="g", n_layers=3, d_model=64, n_heads=8, n_kv_heads=2, n_ctx=512, vocab_size=10
    )
    work = Workload(batch_size=5, seq_len=512, mode="decode", dtype="float16")
    keys = 3 * 5 * 2 * 512 * 8
    queries = 3 * 5 * 8 * 8
    assert moved(shared, work)["attn.scores"] == 2 * (keys + queries)


def test_experts_that_nobody_chose_are_not_read():
    sparse = ModelConfig(
        name="m", n_layers=1, d_model=16, n_heads=2, n_ctx=8, vocab_size=10, n_experts=8, top_k=2,
        d_expert=32,
    )  # fmt: skip
    one = Workload(batch_size=1, seq_len=8, mode="decode")
    assert moved(sparse, one)["moe.experts.up"] == 4 * (2 * 16 + 2 * 16 * 32 + 2 * 32)


@settings(max_examples=60)
@given(models(), workloads())
def test_products_of_the_traffic_are_those_of_the_ledger(model, work):
    counted = sum(part.flops for part in roofline.traffic(model, work))
    assert counted == flops.forward_flops(flops.matmuls(model, work))


@settings(max_examples=60)
@given(models(), workloads())
def test_half_the_width_of_a_number_moves_half_the_bytes(model, work):
    wide, narrow = moved(model, work), moved(model, replace(work, dtype="float16"))
    assert wide == {name: 2 * size for name, size in narrow.items()}


def test_ridge_of_a_v100_is_its_peak_over_its_bandwidth():
    # NVIDIA V100 datasheet, SXM2: 125 TFLOP/s, 900 GB/s.
    assert roofs("v100-sxm2-16gb").ridge == pytest.approx(125e12 / 900e9)


def test_the_dtype_is_the_first_that_the_device_has_a_peak_for():
    assert [roofs(name).dtype for name in ("h100-sxm5-80gb", "t4", "p100-pcie-16gb")] == [
        "bfloat16",
        "float16",
        "float32",
    ]


def test_a_part_takes_the_longer_of_its_two_times():
    limits = roofline.Roofs("d", "float16", 100.0, "a pencil", 10.0)
    under_compute = roofline.Traffic("c", 200, 10)
    under_memory = roofline.Traffic("m", 20, 10)
    assert [limits.least_time_s(p) for p in (under_compute, under_memory)] == [2.0, 1.0]
    assert [limits.bound(p) for p in (under_compute, under_memory)] == ["compute", "memory"]


def test_a_dtype_that_the_device_has_no_peak_for_is_refused_with_those_it_has():
    with pytest.raises(UnavailableError, match=r"no bfloat16 peak for 't4'.*float16, float32"):
        roofs("t4", "bfloat16")


def test_a_name_of_devices_that_differ_is_refused_with_their_names():
    with pytest.raises(QuestionError, match=r"'a100-pcie-40gb'.*'a100-sxm4-80gb'"):
        roofs("a100")
