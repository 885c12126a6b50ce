"""The ledger, held against papers, other implementations and a pencil.

GPT-2 small below is 12 layers of width 768 with 12 heads; GPT-2 XL 48 of 1600 with 25; both read
1024 tokens of 50257 words.
"""

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbench import flops, presets
from gptbench.config import ModelConfig, Workload

SMALL, XL = presets.load("gpt2-small"), presets.load("gpt2-xl")
STEP = Workload(batch_size=1, seq_len=1024)


@st.composite
def models(draw):
    heads, head = draw(st.integers(1, 8)), draw(st.integers(1, 8)) * 2
    out_proj = draw(st.booleans())
    width = draw(st.integers(1, 64)) if out_proj else heads * head
    tied = draw(st.booleans())
    return ModelConfig(
        name="any",
        n_layers=draw(st.integers(1, 6)),
        d_model=width,
        n_heads=heads,
        d_head=head,
        d_ff=draw(st.integers(1, 100)),
        n_ctx=draw(st.integers(1, 64)),
        vocab_size=draw(st.integers(1, 300)),
        positions=draw(st.sampled_from(["learned", "rotary"])),
        out_proj=out_proj,
        qkv_bias=draw(st.booleans()),
        out_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
        tied_head=tied,
        head_bias=not tied and draw(st.booleans()),
    )


works = st.builds(
    Workload,
    batch_size=st.integers(1, 9),
    seq_len=st.integers(1, 64),
    mode=st.sampled_from(["train", "forward"]),
)


# -- GPT-2, four ways -------------------------------------------------------------------------


def test_forward_pass_of_gpt2_small_is_that_of_nanogpts_notebook():
    # transformer_sizing.ipynb, forward_total.
    assert flops.step_flops(SMALL, STEP).forward == 291_648_307_200


# nanoGPT, transformer_sizing.ipynb, cell 9: one block of GPT-2 small, and the head ("dense").
NANOGPT_BLOCK = {
    "attn.qkv": 3_623_878_656,  # attention/kqv
    "attn.scores": 1_610_612_736,  # attention/scores
    "attn.values": 1_610_612_736,  # attention/reduce
    "attn.out": 1_207_959_552,  # attention/proj
    "mlp.up": 4_831_838_208,  # mlp/ffw1
    "mlp.down": 4_831_838_208,  # mlp/ffw2
}


@pytest.mark.parametrize(("row", "block"), NANOGPT_BLOCK.items())
def test_a_row_of_gpt2_small_is_twelve_times_nanogpts_block(row, block):
    assert {r.name: r.flops for r in flops.matmuls(SMALL, STEP)}[row] == 12 * block


def test_head_of_gpt2_small_is_nanogpts_dense_row():
    assert {r.name: r.flops for r in flops.matmuls(SMALL, STEP)}["unembed"] == 79_047_426_048


@pytest.mark.parametrize("batch", [1, 8])
def test_step_of_gpt2_xl_is_megatrons_formula(batch):
    # Narayanan et al. 2021, arXiv:2104.04473, section 5.1: 96 with recomputation, 72 without.
    B, s, l, h, V = batch, 1024, 48, 1600, 50257  # noqa: E741, the paper's own letters
    megatron = 72 * B * s * l * h**2 * (1 + Fraction(s, 6 * h) + Fraction(V, 12 * l * h))
    assert flops.step_flops(XL, STEP.with_batch(batch)).step == megatron


def test_megatrons_formula_for_gpt2_xl_is_the_known_number():
    assert flops.step_flops(XL, STEP).step == 10_520_110_694_400


@pytest.mark.parametrize(("model", "P"), [(SMALL, 123_532_032), (XL, 1_554_971_200)])
def test_three_times_forward_is_palms_exact_form(model, P):
    # Chowdhery et al. 2022, App. B: 6P + 12·L·N·H·T a token, P = 12·L·D² + V·D by hand.
    L, N, H, T = model.n_layers, model.n_heads, model.d_head, 1024
    assert flops.step_flops(model, STEP).forward * 3 == T * (6 * P + 12 * L * N * H * T)


@pytest.mark.parametrize(("model", "P"), [(SMALL, 123_532_032), (XL, 1_554_971_200)])
def test_weights_that_meet_the_token_stream_are_counted_with_a_tied_head(model, P):
    assert flops.parameters(model).matmul == P


# -- the causal mask --------------------------------------------------------------------------


@given(models(), works)
def test_a_causal_mask_keeps_more_than_half_of_attention_and_never_more_than_all(model, work):
    for row in flops.matmuls(model, work):
        assert row.flops < 2 * row.causal_flops <= 2 * row.flops


@pytest.mark.parametrize(("tokens", "pairs"), [(1, 1), (2, 3), (3, 6), (1024, 524_800)])
def test_causal_pairs_are_a_triangle_with_its_diagonal(tokens, pairs):
    assert flops.causal_pairs(tokens) == pairs


# -- laws -------------------------------------------------------------------------------------


@given(models(), works, st.integers(2, 7))
def test_flops_are_linear_in_the_batch(model, work, times):
    once = flops.step_flops(model, work)
    more = flops.step_flops(model, work.with_batch(times * work.batch_size))
    assert (more.forward, more.step) == (times * once.forward, times * once.step)


@given(models(), works)
def test_rows_sum_to_the_forward_pass(model, work):
    total = sum(row.flops for row in flops.matmuls(model, work))
    assert flops.step_flops(model, work).forward == total


@given(models(), works)
def test_backward_is_twice_forward_in_training_and_nothing_elsewhere(model, work):
    cost = flops.step_flops(model, work)
    assert cost.backward == (2 * cost.forward if work.mode == "train" else 0)


@given(models(), works)
def test_flops_of_all_tokens_are_those_of_the_step(model, work):
    cost = flops.step_flops(model, work)
    assert cost.per_token * work.tokens == pytest.approx(cost.step)


@given(models(), works)
def test_hardware_flops_are_model_flops_where_nothing_is_recomputed(model, work):
    cost = flops.step_flops(model, work)
    assert cost.hardware == cost.step


@given(models())
def test_rows_and_tables_sum_to_all_parameters(model):
    rows = sum(row.parameters for row in flops.matmuls(model, STEP))
    tables = sum(table.parameters for table in flops.vectors(model))
    assert flops.parameters(model).total == rows + tables


@given(models())
def test_parameters_equal_a_count_matrix_by_matrix(model):
    L, D, F, V = model.n_layers, model.d_model, model.d_ff, model.vocab_size
    W = model.n_heads * model.d_head
    block = 4 * D  # two norms
    block += 3 * (D * W + W * model.qkv_bias)
    block += (W * D + D * model.out_bias) * model.out_proj
    block += D * F + F * D + (F + D) * model.mlp_bias
    tables = V * D + model.n_ctx * D * (model.positions == "learned")
    head = (D * V + V * model.head_bias) * (not model.tied_head)
    assert flops.parameters(model).total == tables + L * block + 2 * D + head


@given(models())
def test_a_head_of_its_own_adds_parameters_and_no_flops(model):
    tied = replace(model, tied_head=True, head_bias=False)
    own = replace(model, tied_head=False, head_bias=False)
    head = model.d_model * model.vocab_size
    assert flops.step_flops(own, STEP) == flops.step_flops(tied, STEP)
    assert flops.parameters(own).total - flops.parameters(tied).total == head


@given(models(), works)
def test_every_product_that_multiplies_a_weight_reads_every_token(model, work):
    tall = {row.m for row in flops.matmuls(model, work) if row.name not in flops.ATTENTION_CORE}
    assert tall == {work.tokens}


# -- parameters of the presets ----------------------------------------------------------------


def scratchgpt_by_hand():
    tables = 106 * 384 + 256 * 384
    attention = 3 * 384 * 384 + 3 * 384 + 384 * 384 + 384
    mlp = 384 * 1536 + 1536 + 1536 * 384 + 384
    norms = 2 * (384 + 384)
    head = 384 * 106 + 106
    return tables + 6 * (attention + mlp + norms) + 2 * 384 + head


def scala3gpt_by_hand():
    heads = 12 * 768  # each head is as wide as the model
    tables = 50257 * 768 + 512 * 768
    attention = 3 * (768 * heads + heads) + heads * 768 + 768
    mlp = 768 * 3072 + 3072 + 3072 * 768 + 768
    norms = 2 * (768 + 768)
    head = 768 * 50257
    return tables + 6 * (attention + mlp + norms) + 2 * 768 + head


PARAMETERS = {
    # sum(p.numel() for p in model.parameters()) of the released checkpoints
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    # printed by the programs themselves
    "minigpt": 13_162_061,
    "gpt-from-scratch-small": 163_037_184,
    "gpt-from-scratch-medium": 406_286_336,
    "gpt-from-scratch-large": 838_359_040,
    "gpt-from-scratch-xl": 1_638_022_400,
    "gptfromscratch-rope": 29_536,
    # with a pencil, from the shapes in their sources
    "scratchgpt": scratchgpt_by_hand(),
    "scala3gpt": scala3gpt_by_hand(),
}


@pytest.mark.parametrize(("name", "total"), PARAMETERS.items())
def test_a_preset_has_the_parameters_its_source_has(name, total):
    assert flops.parameters(presets.load(name)).total == total


def test_every_preset_is_held_to_a_source():
    assert set(presets.catalogue()) == set(PARAMETERS)


def test_non_embedding_parameters_of_gpt2_small_leave_both_tables_out():
    # 124,439,808 − 50257·768 − 1024·768, as Kaplan et al. 2020 count N.
    assert flops.parameters(SMALL).non_embedding == 85_056_000


@pytest.mark.parametrize(
    "path",
    [
        "model.name",
        *(f"parameters.{k}" for k in ["total", "non_embedding", "active"]),
        *(f"flops.{k}" for k in ["forward", "backward", "recompute", "step", "per_token"]),
        "components",
        "checks",
    ],
)
def test_a_flop_count_keeps_the_keys_that_others_rely_on(path):
    document = flops.document(SMALL, STEP)
    value = document
    for key in path.split("."):
        value = value[key]
    assert value is not None


def test_components_of_a_flop_count_sum_to_its_totals():
    document = flops.document(SMALL, STEP)
    rows = document["components"]
    # nanoGPT's notebook; sum(p.numel()) of the released checkpoint.
    assert sum(r["forward"] for r in rows) == 291_648_307_200
    assert sum(r["backward"] for r in rows) == 583_296_614_400
    assert sum(r["parameters"] for r in rows) == 124_439_808
