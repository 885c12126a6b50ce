"""What a model and a workload can be, and what is said about those that cannot."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbench.config import (
    DTYPE_BYTES,
    DTYPE_SHORT,
    ModelConfig,
    Workload,
    check_fits_context,
    parse_dtype,
)
from gptbench.errors import QuestionError

TINY = {"name": "tiny", "n_layers": 2, "d_model": 12, "n_heads": 3, "n_ctx": 8, "vocab_size": 11}


def tiny(**changes):
    return ModelConfig(**{**TINY, **changes})


def test_width_of_a_head_is_the_models_width_over_the_heads():
    assert tiny().d_head == 4


def test_width_of_the_mlp_is_four_times_the_models():
    assert tiny().d_ff == 48


def test_widths_that_are_given_stay_as_they_are():
    model = tiny(d_head=5, d_ff=7)
    assert (model.d_head, model.d_ff) == (5, 7)


def test_a_model_made_of_anothers_facts_is_the_same_model():
    assert ModelConfig(**asdict(tiny())) == tiny()


@pytest.mark.parametrize("size", ["n_layers", "d_model", "n_heads", "n_ctx", "vocab_size"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_size_below_one_is_refused_by_name(size, value):
    with pytest.raises(QuestionError, match=rf"'tiny': {size} = {value} must be at least 1"):
        tiny(**{size: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 5}, r"n_heads = 5 must divide d_model = 12 where no d_head is given"),
        ({"d_ff": -1}, r"d_ff = -1"),
        ({"d_head": -4}, r"d_head = -4"),
        ({"d_head": 5, "out_proj": False}, r"n_heads × d_value = 15 must equal d_model = 12"),
        ({"d_head": 5, "positions": "rotary"}, r"d_head = 5 must be even"),
        ({"head_bias": True}, r"head_bias = True cannot be where the head is tied"),
        ({"norm_eps": 0.0}, r"norm_eps = 0.0 must lie between 0 and 1"),
        ({"norm_eps": float("nan")}, r"norm_eps = nan must lie between 0 and 1"),
        ({"rotary_base": 1.0}, r"rotary_base = 1.0 must be greater than 1"),
    ],
)
def test_a_model_that_cannot_be_is_refused_with_the_reason(changes, message):
    with pytest.raises(QuestionError, match=message):
        tiny(**changes)


@given(heads=st.integers(1, 32), width=st.integers(1, 512))
def test_heads_either_share_the_width_evenly_or_are_refused(heads, width):
    if width % heads:
        with pytest.raises(QuestionError):
            tiny(n_heads=heads, d_model=width)
    else:
        assert tiny(n_heads=heads, d_model=width).d_head * heads == width


def test_tokens_of_a_step_are_sequences_times_their_length():
    assert Workload(batch_size=3, seq_len=7).tokens == 21


@pytest.mark.parametrize("name", ["batch_size", "seq_len"])
def test_a_workload_without_tokens_is_refused(name):
    with pytest.raises(QuestionError, match=f"{name} = 0 must be at least 1"):
        Workload(**{"batch_size": 1, "seq_len": 1, name: 0})


def test_tf32_of_numbers_that_are_not_float32_is_refused():
    with pytest.raises(QuestionError, match="'bfloat16'"):
        Workload(batch_size=1, seq_len=1, dtype="bfloat16", tf32=True)


def test_autocast_to_float32_is_refused():
    with pytest.raises(QuestionError, match="autocast"):
        Workload(batch_size=1, seq_len=1, autocast=True)


def test_tf32_is_a_number_format_of_its_own():
    work = Workload(batch_size=1, seq_len=1)
    assert (work.matmul_dtype, replace(work, tf32=True).matmul_dtype) == ("float32", "tf32")


def test_another_batch_changes_nothing_else():
    work = Workload(batch_size=1, seq_len=5, mode="forward", dtype="float16")
    assert work.with_batch(9) == replace(work, batch_size=9)


def test_sequences_as_long_as_the_context_fit():
    check_fits_context(tiny(), Workload(batch_size=1, seq_len=8))


def test_sequences_over_the_context_are_refused_with_the_way_out():
    with pytest.raises(QuestionError, match=r"seq_len = 9 .* 'tiny', which is 8\. .*--seq-len 8"):
        check_fits_context(tiny(), Workload(batch_size=1, seq_len=9))


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("float32", "float32"),
        ("fp32", "float32"),
        ("BF16", "bfloat16"),
        ("bfloat16", "bfloat16"),
        ("fp16", "float16"),
        ("half", "float16"),
    ],
)
def test_dtypes_have_torchs_names_and_short_ones(text, dtype):
    assert parse_dtype(text) == dtype


@pytest.mark.parametrize("word", [*DTYPE_BYTES, *DTYPE_SHORT])
def test_an_unknown_dtype_is_answered_with_every_known_word(word):
    with pytest.raises(QuestionError, match=rf"'int3'.*\b{word}\b"):
        parse_dtype("int3")
