"""What would fit, by the prediction: every option that is named is below the limit."""

import re

import pytest

from gptbench import advice, memory, presets
from gptbench.config import Workload

SMALL = presets.load("gpt2-small")
WORK = Workload(batch_size=4, seq_len=1024)
NEED = memory.footprint(SMALL, WORK).total


def test_options_that_fit_are_named():
    said = advice.what_would_fit(SMALL, WORK, int(0.9 * NEED))
    assert "--dtype bfloat16 --pure" in said


def test_the_longest_half_of_the_sequence_that_fits_is_named():
    said = advice.what_would_fit(SMALL, WORK, int(0.9 * NEED))
    (seq_len,) = map(int, re.findall(r"--seq-len (\d+)", said))
    shorter, longer = (
        memory.footprint(SMALL, Workload(batch_size=4, seq_len=t)).total
        for t in (seq_len, 2 * seq_len)
    )
    assert shorter <= int(0.8 * NEED) < longer


def test_options_that_fit_only_together_are_named_together():
    pure = Workload(batch_size=4, seq_len=16, dtype="bfloat16")
    least = memory.footprint(SMALL, pure).total
    assert "all together" in advice.what_would_fit(SMALL, WORK, int(1.02 * least))


def test_where_nothing_fits_that_is_said_with_the_least_there_is():
    said = advice.what_would_fit(SMALL, WORK, 1 << 20)
    assert said.startswith("No option makes this model fit")


@pytest.mark.parametrize("attention", ["math", "fused"])
def test_an_option_that_is_taken_is_not_advised(attention):
    work = Workload(batch_size=1, seq_len=1024, attention=attention, recompute="block")
    said = advice.what_would_fit(SMALL, work, memory.footprint(SMALL, work).total)
    assert "--recompute" not in said
    assert ("--attention fused" in said) <= (attention == "math")
