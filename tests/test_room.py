"""What fits into a device, and what would make room: held to predicting the other step itself."""

from dataclasses import replace

import pytest

from gptbench import device, memory, presets, room
from gptbench.config import Workload
from gptbench.errors import OutOfMemoryError, QuestionError
from gptbench.memory import Setup

DEVICES = device.table()


def case(name="gpt2-small", setup=None, **facts):
    work = Workload(**{"batch_size": 4, "seq_len": 1024, **facts})
    return room.Case(presets.load(name), work, setup or Setup("cuda"))


def options(asked):
    return [found.option for found in room.advice(asked)]


def limit(name):
    return room.limit(device.find(name, DEVICES))


def test_everything_is_advised_to_a_step_that_saves_nothing():
    written_out = options(case(attention="math", dtype="bfloat16", autocast=True))
    assert {*options(case()), *written_out} == {
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
    assert option not in options(case(**{"attention": "math", **done}))


def test_a_model_with_sinks_is_not_told_to_fuse_its_attention():
    assert "--attention fused" not in options(case("gpt-oss-20b", attention="math"))


def test_advice_is_the_difference_of_two_predictions_most_first():
    asked = case(attention="math", dtype="bfloat16")
    found = room.advice(asked)
    fused = memory.footprint(asked.model, replace(asked.work, attention="fused"), asked.setup)
    one = next(a for a in found if a.option == "--attention fused")
    assert one.total_bytes == fused.total
    assert one.saved_bytes == asked.footprint.total - fused.total
    assert [a.saved_bytes for a in found] == sorted((a.saved_bytes for a in found), reverse=True)


def test_a_loss_in_chunks_leaves_an_eighth_of_the_logits():
    # The loss holds 3 float32 tensors of [4·1024, 50257] at once; in 8 chunks, of [512, 50257].
    asked = case()
    chunked = replace(asked, setup=replace(asked.setup, loss_chunks=8))
    whole = 3 * 4 * 1024 * 50257 * 4
    assert asked.footprint.logits == whole
    assert chunked.footprint.logits <= whole // 8


def test_a_device_has_what_the_table_says_less_its_drivers():
    # NVIDIA T4 datasheet: 16 GB.
    assert limit("t4").size_bytes == 16_000_000_000 - room.CONTEXT_BYTES


def test_a_name_of_devices_that_differ_in_memory_is_refused_with_their_names():
    with pytest.raises(QuestionError, match=r"'a100-pcie-40gb'.*'a100-sxm4-80gb'"):
        limit("a100")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("h100-sxm5-80gb", "bfloat16"), ("t4", "float16"), ("p100-pcie-16gb", "float32")],
)
def test_a_device_trains_in_the_narrowest_format_that_it_multiplies(name, dtype):
    assert limit(name).dtype == dtype


def test_what_does_not_fit_is_told_what_it_needs_and_which_options_would_fit():
    asked = case("gpt2-xl", dtype="bfloat16", autocast=True, batch_size=1)
    allowed = room.Limit("a card", asked.footprint.total - 1, "bfloat16")
    with pytest.raises(OutOfMemoryError, match=r"even batch 1 needs .*, the limit is") as error:
        room.largest_batch(asked, allowed)
    for found in room.advice(asked):
        assert found.option in str(error.value)


def test_all_at_once_need_less_than_each_alone():
    asked = case("gpt2-xl", attention="math")
    together = room._all_at_once(asked).footprint.total
    assert together < min(found.total_bytes for found in room.advice(asked))


def test_what_no_option_alone_makes_fit_is_told_what_all_at_once_need():
    asked = case("llama-3-70b", dtype="bfloat16", autocast=True)
    with pytest.raises(OutOfMemoryError, match=r"No option alone .* at once need"):
        room.largest_batch(asked, limit("t4"))
