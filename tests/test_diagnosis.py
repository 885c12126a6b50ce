"""What is said about a utilization that cannot be: each slip made on purpose, then found.

GPT-2 small takes 854,438,400 FLOPs a token. 146,061 tokens/s of it are 40% of an A100's 312
TFLOP/s of bfloat16, and so every mistake below is a factor on 40%.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbench import diagnosis, published
from gptbench.cli import main as cli
from gptbench.errors import ImpossibleMfuError
from gptbench.published import Question
from gptbench.report import published as report

HONEST = 0.4 * 312e12 / 854_438_400


def asked(tokens_per_s=HONEST, **facts):
    rate = None if "mfu" in facts else repr(tokens_per_s)
    question = {"model": "gpt2-small", "gpu": "a100", "tokens_per_s": rate, **facts}
    return published.answer(Question(**question))


def codes(found):
    return [caveat.code for caveat in found.diagnoses]


def first(found):
    return found.diagnoses[0].values


# -- what is plausible is left alone -----------------------------------------------------------


@pytest.mark.parametrize("n_gpus", [1, 8, 512])
def test_nothing_is_said_of_an_honest_number(n_gpus):
    assert codes(asked(n_gpus * HONEST, n_gpus=n_gpus)) == []


def test_nothing_is_said_of_a_low_number_on_one_gpu():
    assert codes(asked(HONEST / 40)) == []


def test_a_typed_peak_that_is_the_gpus_own_is_not_doubted():
    assert codes(asked(peak="312TFLOP/s")) == []


def test_a_peak_of_a_gpu_that_is_not_named_is_not_doubted():
    assert codes(asked(gpu=None, peak="624TFLOP/s")) == []


# -- slips ------------------------------------------------------------------------------------


def test_a_sparse_peak_is_seen_though_the_answer_could_be():
    found = asked(peak="624TFLOP/s")
    assert codes(found) == ["sparse-peak"]
    assert first(found)["use"] == pytest.approx(0.4)


def test_a_sparse_peak_is_known_by_the_digits_that_nvidia_prints():
    # 1,979 TFLOP/s of the H100's product page are 1978.9 of its whitepaper.
    found = asked(gpu="h100-sxm5-80gb", peak="1979TFLOP/s")
    assert codes(found) == ["sparse-peak", "other-dtype-typed"]


def test_a_peak_that_was_halved_though_it_is_dense_is_seen():
    found = asked(2 * HONEST, peak="156TFLOP/s")
    assert codes(found)[0] == "halved-peak"
    assert first(found)["use"] == pytest.approx(0.8)


def test_a_peak_of_another_dtype_is_named():
    found = asked(dtype="fp32", peak="312TFLOP/s")
    assert codes(found) == ["other-dtype-typed"]
    assert first(found)["dtype"] == "bfloat16"


def test_a_float32_peak_under_bfloat16_tokens_is_answered_with_bfloat16():
    found = asked(dtype="fp32")
    assert codes(found)[0] == "other-dtype"
    assert (first(found)["dtype"], first(found)["peak"]) == ("bfloat16", 312e12)


def test_the_dtype_of_a_card_without_bfloat16_is_float16():
    # 40% of a T4's 65 TFLOP/s of float16, over its 8.1 of float32.
    found = asked(0.4 * 65e12 / 854_438_400, gpu="t4", dtype="fp32")
    assert first(found)["dtype"] == "float16"


@pytest.mark.parametrize("n_gpus", [8, 16, 64, 1024])
def test_tokens_of_all_gpus_over_the_peak_of_one_are_answered_with_a_number_of_gpus(n_gpus):
    (found,) = [c for c in asked(n_gpus * HONEST).diagnoses if c.code == "all-gpus"]
    assert (found.values["n_gpus"], found.values["use"]) == (n_gpus, pytest.approx(0.4))


def test_a_node_of_eight_is_thought_of_before_smaller_machines():
    # 160%: 80% on two, 40% on four, 20% on eight.
    assert first(asked(4 * HONEST))["n_gpus"] == 8


def test_smaller_machines_are_thought_of_where_eight_would_be_too_many():
    # 104%: 52% on two, 26% on four, 13% on eight.
    assert first(asked(2.6 * HONEST))["n_gpus"] == 2


def test_multiply_adds_for_flops_are_a_factor_of_two():
    (found,) = [c for c in asked(3 * HONEST).diagnoses if c.code == "multiply-adds"]
    assert found.values["use"] == pytest.approx(0.6)
    assert found.values["tokens_per_s"] == pytest.approx(1.5 * HONEST)


def test_only_a_peak_that_was_typed_may_be_one_of_multiply_adds():
    typed = asked(3 * HONEST, gpu=None, peak="312TFLOP/s")
    found = [
        [c for c in a.diagnoses if c.code == "multiply-adds"] for a in (typed, asked(3 * HONEST))
    ]
    assert ["peak" in c.values for (c,) in found] == [True, False]


def test_tokens_of_one_gpu_over_the_peak_of_all_are_told():
    found = asked(HONEST, n_gpus=64)
    assert codes(found) == ["per-gpu"]
    assert first(found)["tokens_per_s"] == pytest.approx(64 * HONEST)


def test_recomputation_that_does_not_fit_is_told():
    assert codes(asked(mfu="90%", recompute="block")) == ["recompute"]


def test_what_no_single_slip_explains_is_said_to_be_so():
    assert codes(asked(1e9 * HONEST)) == ["unexplained"]


def test_a_geforce_above_its_stated_clock_is_no_error():
    # The peak of an RTX 4090 is stated at its boost clock; torch reaches 173 of 165.2 TFLOP/s.
    found = asked(173e12 / 854_438_400, gpu="rtx-4090")
    assert codes(found) == ["over-stated-clock"]
    published.refuse_impossible(found)


# -- each is an error or is not, and says what to type ------------------------------------------


def test_more_than_the_peak_is_refused_with_its_numbers():
    with pytest.raises(
        ImpossibleMfuError, match=r"an MFU of 320\.0% is impossible: 998\.4 TFLOP/s"
    ):
        published.refuse_impossible(asked(8 * HONEST))


def test_more_than_the_peak_with_what_is_computed_again_is_refused():
    with pytest.raises(ImpossibleMfuError, match=r"an HFU of 111\.9% is impossible"):
        published.refuse_impossible(asked(mfu="0.9", recompute="block"))


def test_what_can_be_is_not_refused():
    published.refuse_impossible(asked())


@given(st.floats(1, 1e12), st.integers(1, 64), st.sampled_from(["fp32", "bf16", "tf32"]))
def test_no_impossible_number_is_left_without_a_reason(tokens_per_s, n_gpus, dtype):
    found = asked(tokens_per_s, n_gpus=n_gpus, dtype=dtype)
    assert found.diagnoses or not diagnosis.impossible(found.setting, found.exact)


@given(st.floats(1, 1e12), st.integers(1, 64), st.sampled_from(["156", "312", "495", "624"]))
def test_every_diagnosis_has_its_sentence(tokens_per_s, n_gpus, peak):
    for caveat in asked(tokens_per_s, n_gpus=n_gpus, peak=f"{peak}TFLOP/s").diagnoses:
        assert report.sentence(caveat).endswith(".")


SLIPS = {
    "other-dtype": ["--tokens-per-s", "146061", "--dtype", "fp32"],
    "other-dtype-typed": ["--tokens-per-s", "146061", "--dtype", "fp32", "--peak", "312TFLOP/s"],
    "all-gpus": ["--tokens-per-s", "1168488"],
    "multiply-adds": ["--tokens-per-s", "438183"],
    "per-gpu": ["--tokens-per-s", "146061", "--n-gpus", "8"],
}


@pytest.mark.parametrize("slip", SLIPS)
def test_typing_what_any_sentence_says_mends_the_number(slip, capsys):
    """The first option and value that a sentence names, typed in the place of what was."""
    words = ["mfu", "gpt2-small", "--gpu", "a100", *SLIPS[slip]]
    cli.main(words)
    notes = [s for s in capsys.readouterr().err.splitlines() if s.startswith("Note: ")]
    named = [re.search(r"type (--[\w-]+) ([\w/]+)", note, re.IGNORECASE) for note in notes]
    assert [cli.main(with_value(words, *found.groups())) for found in named] == [0] * len(notes)
    assert notes


def with_value(words, option, value):
    if option not in words:
        return [*words, option, value]
    place = words.index(option) + 1
    return [*words[:place], value, *words[place + 1 :]]
