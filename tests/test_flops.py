"""The ledger, held against papers, other implementations and a pencil.

GPT-2 small below is 12 layers of width 768 with 12 heads; GPT-2 XL 48 of 1600 with 25; both read
1024 tokens of 50257 words.
"""

from dataclasses import replace
from fractions import Fraction

import pytest
from architectures import latent_models, models, workloads
from hypothesis import given
from hypothesis import strategies as st

from gptbench import flops, presets
from gptbench.config import ModelConfig, Workload

SMALL, XL = presets.load("gpt2-small"), presets.load("gpt2-xl")
STEP = Workload(batch_size=1, seq_len=1024)
ANY_MODEL = st.one_of(models(), latent_models())


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


@given(ANY_MODEL, workloads())
def test_a_causal_mask_keeps_a_key_a_query_and_never_more_than_all(model, work):
    for row in flops.matmuls(model, work):
        assert row.flops <= row.causal_flops * row.n * row.k
        assert row.causal_flops <= row.flops


@given(st.integers(1, 60), st.integers(0, 70))
def test_a_window_keeps_the_pairs_that_a_loop_counts(length, window):
    seen = [min(t, window or t) for t in range(1, length + 1)]
    assert flops.causal_pairs(length, window) == sum(seen)


@pytest.mark.parametrize(("tokens", "pairs"), [(1, 1), (2, 3), (3, 6), (1024, 524_800)])
def test_causal_pairs_are_a_triangle_with_its_diagonal(tokens, pairs):
    assert flops.causal_pairs(tokens) == pairs


# -- laws -------------------------------------------------------------------------------------


@given(ANY_MODEL, workloads(), st.integers(2, 7))
def test_flops_are_linear_in_the_batch(model, work, times):
    once = flops.step_flops(model, work)
    more = flops.step_flops(model, work.with_batch(times * work.batch_size))
    assert (more.forward, more.step) == (times * once.forward, times * once.step)


@given(ANY_MODEL, workloads())
def test_rows_sum_to_the_forward_pass(model, work):
    total = sum(row.flops for row in flops.matmuls(model, work))
    assert flops.step_flops(model, work).forward == work.grad_accum * total


@given(ANY_MODEL, workloads())
def test_backward_is_twice_forward_in_training_and_nothing_elsewhere(model, work):
    cost = flops.step_flops(model, work)
    assert cost.backward == (2 * cost.forward if work.mode == "train" else 0)


@given(ANY_MODEL, workloads())
def test_flops_of_all_tokens_are_those_of_the_step(model, work):
    cost = flops.step_flops(model, work)
    assert cost.per_token * work.tokens == pytest.approx(cost.step)


@given(ANY_MODEL, workloads())
def test_hardware_flops_are_model_flops_where_nothing_is_recomputed(model, work):
    cost = flops.step_flops(model, replace(work, recompute="none"))
    assert cost.hardware == cost.step


@given(ANY_MODEL, workloads())
def test_layers_and_what_stands_around_them_sum_to_the_forward_pass(model, work):
    rows = flops.matmuls(model, work)
    layers = [row for i in range(model.n_layers) for row in flops.layer(model, work, i)]
    around = [row for row in rows if not flops.in_block(row)]
    assert flops.forward_flops([*layers, *around]) == flops.forward_flops(rows)


@given(ANY_MODEL, workloads())
def test_layers_have_the_parameters_of_their_rows(model, work):
    rows = flops.matmuls(model, work)
    layers = [row for i in range(model.n_layers) for row in flops.layer(model, work, i)]
    in_blocks = sum(row.parameters for row in rows if flops.in_block(row))
    assert sum(row.parameters for row in layers) == in_blocks


@given(ANY_MODEL, workloads())
def test_packed_sequences_cost_what_they_cost_one_by_one(model, work):
    def forward(**changes):
        return flops.step_flops(model, replace(work, **changes)).forward

    alone = sum(forward(seq_len=n, seq_lens=()) for n in work.lengths)
    assert forward() == alone


@given(ANY_MODEL, workloads())
def test_gradients_of_more_batches_cost_as_many_times_more(model, work):
    alone = flops.step_flops(model, replace(work, grad_accum=1))
    found = flops.step_flops(model, work)
    times = work.grad_accum
    assert (found.step, found.recompute) == (times * alone.step, times * alone.recompute)
    assert found.tokens == times * alone.tokens


@given(ANY_MODEL)
def test_rows_and_tables_sum_to_all_parameters(model):
    rows = sum(row.parameters for row in flops.matmuls(model, STEP))
    tables = sum(table.parameters for table in flops.vectors(model))
    assert flops.parameters(model).total == rows + tables


@given(latent_models())
def test_parameters_of_latent_attention_equal_a_count_matrix_by_matrix(model):
    """The modules of transformers' DeepseekV3Attention, with a pencil."""
    D, N, V = model.d_model, model.n_heads, model.vocab_size
    still, turned, value = model.d_head - model.d_rotary, model.d_rotary, model.d_value
    bias = int(model.qkv_bias)
    queries = D * N * (still + turned)
    if model.q_rank:
        queries = (D + bias) * model.q_rank + model.q_rank * N * (still + turned)
        queries += 2 * model.q_rank  # its norm
    keys = (D + bias) * (model.kv_rank + turned) + model.kv_rank * N * (still + value)
    keys += 2 * model.kv_rank  # its norm
    out = N * value * D + D
    mlp = 3 * D * model.d_ff + 2 * model.d_ff + D
    block = queries + keys + out + mlp + 4 * D
    assert flops.parameters(model).total == V * D + model.n_layers * block + 2 * D


@given(ANY_MODEL)
def test_a_head_of_its_own_adds_parameters_and_no_flops(model):
    tied = replace(model, tied_head=True, head_bias=False)
    own = replace(model, tied_head=False, head_bias=False)
    head = model.d_embed * model.vocab_size
    assert flops.step_flops(own, STEP) == flops.step_flops(tied, STEP)
    assert flops.parameters(own).total - flops.parameters(tied).total == head


@given(models(), workloads())
def test_one_token_meets_top_k_of_the_experts(model, work):
    experts = [r for r in flops.matmuls(model, work) if r.name.startswith("moe.experts.")]
    met = sum(r.parameters * model.top_k // model.n_experts for r in experts)
    found = flops.parameters(model)
    assert found.total - found.active == sum(r.parameters for r in experts) - met


# -- modes ------------------------------------------------------------------------------------


def test_a_decoded_token_of_gpt2_small_multiplies_every_weight_and_every_key():
    # 2P + 4·L·D·S, P = 123,532,032 and S = 1024.
    work = replace(STEP, mode="decode")
    assert flops.step_flops(SMALL, work).forward == 2 * 123_532_032 + 4 * 12 * 768 * 1024


def test_prefill_needs_the_logits_of_the_last_token_alone():
    whole = flops.step_flops(SMALL, replace(STEP, mode="forward")).forward
    prefill = flops.step_flops(SMALL, replace(STEP, mode="prefill")).forward
    assert whole - prefill == 2 * 1023 * 768 * 50257


def test_a_cache_holds_no_more_keys_than_the_window():
    config = ModelConfig(
        name="w", n_layers=2, d_model=8, n_heads=2, n_ctx=100, vocab_size=10, windows=(16, 0)
    )
    rows = flops.matmuls(config, Workload(batch_size=1, seq_len=100, mode="decode"))
    keys = {row.name: row.n for row in rows if row.name.startswith("attn.scores")}
    assert keys == {"attn.scores.w16": 16, "attn.scores": 100}


@pytest.mark.parametrize("batch", [1, 8])
def test_recomputing_blocks_of_gpt2_xl_is_megatrons_formula(batch):
    # Narayanan et al. 2021, arXiv:2104.04473, section 5.1, with activation recomputation.
    B, s, l, h, V = batch, 1024, 48, 1600, 50257  # noqa: E741, the paper's own letters
    megatron = 96 * B * s * l * h**2 * (1 + Fraction(s, 6 * h) + Fraction(V, 16 * l * h))
    work = replace(STEP, batch_size=batch, recompute="block")
    assert flops.step_flops(XL, work).hardware == megatron


def test_recomputing_attention_of_gpt2_xl_is_its_two_products_once_more():
    # Korthikanti et al. 2022, arXiv:2205.05198, section 5: 4·B·s²·h a layer.
    work = replace(STEP, recompute="attention")
    assert flops.step_flops(XL, work).recompute == 48 * 4 * 1024**2 * 1600


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


def granite_8b_by_hand():
    table = 49_155 * 4096  # the head is tied to it
    attention = 4096 * (4096 + 2 * 1024) + 4096 * 4096  # 8 heads of 128 for keys and for values
    mlp = 3 * 4096 * 12_800
    return table + 40 * (attention + mlp + 2 * 4096) + 4096


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
    # with a pencil, from the shapes in their sources: of nanogpt-cpu, nanoGPT prints 0.80M without
    # its 64 positions
    "nanogpt-cpu": 4 * (12 * 128**2 + 2 * 128) + 128 + (65 + 64) * 128,
    "scratchgpt": scratchgpt_by_hand(),
    "scala3gpt": scala3gpt_by_hand(),
    # "total params" of the model cards of EleutherAI/pythia-*, and that of gpt-neox-20b
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1.4b": 1_414_647_808,
    "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320,
    "gpt-neox-20b": 20_554_567_680,
    # sum(p.numel() for p in model.parameters()) of the released checkpoints
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
    # peft's notebook for facebook/opt-6.7b: all params 6,666,862,592, of which 8,388,608 are LoRA's
    "opt-6.7b": 6_666_862_592 - 8_388_608,
    # totals of the safetensors files, as the pages of the models show them
    "llama-2-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "tinyllama-1.1b": 1_100_048_384,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b": 7_241_732_096,
    "mixtral-8x7b": 46_702_792_704,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "phi-3-mini": 3_821_079_552,
    "olmo-2-7b": 7_298_617_344,
    # likewise, but for the head, which those files store beside the table that it is tied to
    "qwen3-0.6b": 751_632_384 - 1024 * 151_936,
    # the checkpoint's tensors without the second prediction's, and without a number an expert in 58
    # layers that balances the routing: no gradient makes it, so transformers has it as a buffer
    "deepseek-v3": 671_026_419_200 - 58 * 256,
    # general.parameter_count of the released files, whose experts are stored in four bits
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    # with a pencil: the model card has 8.1B
    "granite-3.0-8b": granite_8b_by_hand(),
}


@pytest.mark.parametrize(("name", "total"), PARAMETERS.items())
def test_a_preset_has_the_parameters_its_source_has(name, total):
    """Pitfall 24."""
    assert flops.parameters(presets.load(name)).total == total


def test_every_preset_is_held_to_a_source():
    assert set(presets.catalogue()) == set(PARAMETERS)


def test_non_embedding_parameters_of_gpt2_small_leave_both_tables_out():
    # 124,439,808 − 50257·768 − 1024·768, as Kaplan et al. 2020 count N.
    assert flops.parameters(SMALL).non_embedding == 85_056_000
