"""What fits into a device of the table."""

import pytest

from gptbench import advice, device, presets, room
from gptbench.config import Workload
from gptbench.errors import OutOfMemoryError, QuestionError
from gptbench.memory import Case, Setup

DEVICES = device.table()


def case(name, **facts):
    work = Workload(batch_size=1, seq_len=1024, dtype="bfloat16", autocast=True, **facts)
    return Case(presets.load(name), work, Setup("cuda"))


def limit(name):
    return room.limit(device.find(name, DEVICES))


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
    asked = case("gpt2-xl")
    allowed = room.Limit("a card", asked.footprint.total - 1, "bfloat16")
    with pytest.raises(OutOfMemoryError, match=r"even batch 1 needs .*, the limit is") as error:
        room.largest_batch(asked, allowed)
    for found in advice.ranked(asked):
        assert found.option in str(error.value)


def test_what_nothing_makes_fit_is_told_the_least_it_takes():
    with pytest.raises(OutOfMemoryError, match=r"No option makes this model fit.* at the least"):
        room.largest_batch(case("llama-3-70b"), limit("t4"))
