"""What would make room, and what would fit: each held to predicting the other step itself."""

import re
from dataclasses import replace

import pytest

from gptbench import advice, presets
from gptbench.config import Workload
from gptbench.memory import Case, Setup


def case(name="gpt2-small", setup=None, **facts):
    work = Workload(**{"batch_size": 4, "seq_len": 1024, **facts})
    return Case(presets.load(name), work, setup or Setup("cuda"))


def names(asked):
    return [found.option for found in advice.ranked(asked)]


FLOAT32 = case()
NEED = FLOAT32.footprint.total


def test_everything_is_advised_to_a_step_that_saves_nothing():
    written_out = names(case(attention="math", dtype="bfloat16", autocast=True))
    assert {*names(case()), *written_out} == {
        "--attention fused", "--dtype bfloat16", "--pure", "--recompute attention",
        "--recompute block", "--optimizer adamw-bf16", "the loss in 8 chunks",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("done", "option"),
    [
        ({"attention": "fused"}, "--attention fused"),
        ({"recompute": "block"}, "--recompute block"),
        ({"recompute": "block"}, "--recompute attention"),
        ({"setup": Setup("cuda", "adamw-bf16")}, "--optimizer adamw-bf16"),
        ({"setup": Setup("cuda", "sgd")}, "--optimizer adamw-bf16"),
        ({"dtype": "bfloat16", "autocast": True}, "--dtype bfloat16"),
        ({"dtype": "bfloat16"}, "--pure"),
        ({"mode": "forward"}, "--recompute block"),
    ],
)
def test_nothing_is_advised_that_is_done_already_or_cannot_be(done, option):
    assert option not in names(case(**{"attention": "math", **done}))


def test_a_model_with_sinks_is_not_told_to_fuse_its_attention():
    assert "--attention fused" not in names(case("gpt-oss-20b", attention="math"))


def test_advice_is_the_difference_of_two_predictions_most_first():
    asked = case(attention="math", dtype="bfloat16")
    found = advice.ranked(asked)
    fused = replace(asked, work=replace(asked.work, attention="fused")).footprint
    one = next(a for a in found if a.option == "--attention fused")
    assert one.total_bytes == fused.total
    assert one.saved_bytes == asked.footprint.total - fused.total
    assert [a.saved_bytes for a in found] == sorted((a.saved_bytes for a in found), reverse=True)


def test_a_loss_in_chunks_leaves_an_eighth_of_the_logits():
    # The loss holds 3 float32 tensors of [4·1024, 50257] at once; in 8 chunks, of [512, 50257].
    chunked = replace(FLOAT32, setup=replace(FLOAT32.setup, loss_chunks=8))
    whole = 3 * 4 * 1024 * 50257 * 4
    assert FLOAT32.footprint.logits == whole
    assert chunked.footprint.logits <= whole // 8


# -- what would fit ---------------------------------------------------------------------------


def test_an_option_that_is_predicted_to_fit_is_named():
    said = advice.what_would_fit(FLOAT32, int(0.97 * NEED))
    fitting = [name for name, c in advice.options(FLOAT32) if c.footprint.total <= 0.97 * NEED]
    assert fitting
    assert all(name in said for name in fitting)


def test_an_option_that_is_predicted_not_to_fit_is_not_named():
    said = advice.what_would_fit(FLOAT32, int(0.5 * NEED))
    over = [name for name, c in advice.options(FLOAT32) if c.footprint.total > 0.5 * NEED]
    assert over
    assert not any(name in said for name in over)


def test_what_was_predicted_to_fit_and_did_not_has_to_save_a_fifth():
    said = advice.what_would_fit(FLOAT32, 2 * NEED)
    small = [name for name, c in advice.options(FLOAT32) if c.footprint.total > 0.8 * NEED]
    assert small
    assert not any(f"{name} (" in said for name in small)


def test_the_longest_half_of_the_sequence_that_fits_is_named():
    said = advice.what_would_fit(FLOAT32, int(0.9 * NEED))
    (seq_len,) = map(int, re.findall(r"--seq-len (\d+)", said))
    shorter, longer = (
        replace(FLOAT32, work=replace(FLOAT32.work, seq_len=t)).footprint.total
        for t in (seq_len, 2 * seq_len)
    )
    assert shorter <= int(0.9 * NEED) < longer


def test_options_that_fit_only_together_are_named_together():
    _, together = advice.all_at_once(FLOAT32, advice.options)
    shortest = replace(together, work=replace(together.work, seq_len=16)).footprint.total
    said = advice.what_would_fit(FLOAT32, int(1.02 * shortest))
    assert "all together" in said


def test_where_nothing_fits_that_is_said_with_the_least_there_is():
    said = advice.what_would_fit(FLOAT32, 1 << 20)
    assert said.startswith("No option makes this model fit")


def test_an_option_that_is_taken_is_not_advised():
    asked = case(attention="fused", recompute="block")
    said = advice.what_would_fit(asked, int(0.5 * asked.footprint.total))
    assert "--recompute" not in said
    assert "--attention" not in said


def test_an_option_that_is_not_taken_is_advised_where_it_makes_room():
    asked = case(attention="math")
    said = advice.what_would_fit(asked, int(0.97 * asked.footprint.total))
    assert "--recompute block" in said
    assert "--attention fused" in said


@pytest.mark.parametrize("changes", [advice.options, advice.alternatives])
@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("name", ["gpt2-small", "gpt2-xl", "llama-3.2-1b"])
def test_all_at_once_gives_each_option_one_value(name, attention, changes):
    names, together = advice.all_at_once(case(name, attention=attention), changes)
    options = [typed.split()[0] for typed in names if typed.startswith("--")]
    assert len(options) == len(set(options))
    assert f"--recompute {together.work.recompute}" in names


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_the_format_that_is_advised_is_the_one_that_the_device_multiplies(narrow):
    advised = [name for name in names(case(setup=Setup("cuda", narrow=narrow))) if "dtype" in name]
    assert advised == [f"--dtype {narrow}"]


def test_a_device_without_half_precision_is_advised_none():
    asked = case(setup=Setup("cuda", narrow="float32"))
    assert not any("--dtype" in name for name in names(asked))


def test_all_at_once_need_less_than_each_alone():
    asked = case("gpt2-xl", attention="math")
    _, together = advice.all_at_once(asked, advice.alternatives)
    assert together.footprint.total < min(found.total_bytes for found in advice.ranked(asked))
