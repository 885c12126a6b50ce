"""What the tables of a prediction say beside their numbers."""

import pytest

from gptbench import presets, room
from gptbench.config import Workload
from gptbench.memory import Case, Setup
from gptbench.report import footprints


def case(name="gpt2-small", setup=None, **facts):
    work = Workload(**{"batch_size": 1, "seq_len": 1024, **facts})
    return Case(presets.load(name), work, setup or Setup())


def ledger(name="gpt2-small", setup=None, **facts):
    return footprints.ledger(case(name, setup, **facts))


def said(table):
    return " ".join(table.notes)


def row(table, name):
    (found,) = (r for r in table.rows if r[0] == name)
    return found


def test_a_model_with_sinks_is_titled_by_the_attention_that_is_counted():
    table = ledger("gpt-oss-20b", attention="fused")
    assert "math attention" in table.title
    assert "attention sinks" in said(table)


def test_shared_heads_are_said_to_be_written_out_where_no_kernel_takes_them():
    table = ledger("llama-3.2-1b", Setup("cuda", capability="7.5"), dtype="float16")
    assert "fused attention, written out by PyTorch" in table.title
    assert "it writes it out, in float32" in said(table)


def test_layers_with_a_window_are_counted_where_they_alone_have_no_kernel():
    # Gemma 2: every second of 26 layers sees 4096 tokens.
    facts = {"seq_len": 8192, "dtype": "bfloat16"}
    table = ledger("gemma-2-2b", Setup("cuda", capability="8.0"), **facts)
    assert "in 13 of 26 layers" in said(table)


@pytest.mark.parametrize(
    ("name", "capability", "dtype"),
    [("gpt2-small", "7.5", "float16"), ("llama-3.2-1b", "8.0", "bfloat16")],
)
def test_nothing_is_said_of_attention_where_a_kernel_takes_it(name, capability, dtype):
    table = ledger(name, Setup("cuda", capability=capability), dtype=dtype)
    assert "written out" not in table.title + said(table)


def test_a_cache_of_own_keys_is_put_beside_one_of_latents():
    # DeepSeek-V3: 61 layers, 512 + 64 numbers of 2 bytes a token.
    facts = {"mode": "decode", "seq_len": 4096, "dtype": "bfloat16"}
    assert 61 * 4096 * (512 + 64) * 2 == 274.5 * 2**20
    assert "It takes 274.50 MiB." in said(ledger("deepseek-v3", **facts))


def test_latent_attention_is_not_spoken_of_where_there_is_no_cache():
    assert "Latent" not in said(ledger("deepseek-v3", seq_len=64))
    assert "Latent" not in said(ledger("llama-3-8b", mode="decode"))


def test_why_the_rows_do_not_add_up_is_said():
    whole = ledger()
    assert "not the sum: gradients come as activations go" in said(whole)
    assert "what the loss keeps is in activations and in logits" in said(whole)


def test_gradients_that_are_held_throughout_are_not_said_to_come_and_go():
    assert "gradients come" not in said(ledger(grad_accum=2))
    assert "gradients come" not in said(ledger(mode="forward"))


@pytest.mark.parametrize(
    ("mode", "whose"), [("train", "loss"), ("forward", "loss"), ("decode", "next token")]
)
def test_logits_are_said_to_be_of_the_loss_only_where_there_is_one(mode, whose):
    assert whose in row(ledger(mode=mode), "logits")[1]


T4 = room.Limit("t4", 14 << 30, "float16", "7.5", ("float32", "float16"))


def fitting(batch_size, dtype="float16"):
    work = Workload(batch_size=batch_size, seq_len=1024, dtype=dtype, autocast=True)
    return said(footprints.fitting(work, 91 << 30, 13, T4))


def test_a_batch_that_does_not_fit_is_said_not_to():
    assert "Batch 14 does not fit: it needs 91.00 GiB." in fitting(14)


def test_a_batch_that_fits_is_not_said_not_to():
    assert "does not fit" not in fitting(13)


@pytest.mark.parametrize(("dtype", "warned"), [("bfloat16", True), ("float16", False)])
def test_a_format_that_the_device_does_not_multiply_is_named_with_the_one_it_does(dtype, warned):
    assert ("Type --dtype float16." in fitting(1, dtype)) == warned
