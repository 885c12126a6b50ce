"""Verdicts: the table of rules, families, and how a process ends."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbench import ranks, verdict
from gptbench.errors import QuestionError

MIRROR = {"REGRESSED": "IMPROVED", "IMPROVED": "REGRESSED"}


def judged(units, delta=0.02, level=0.05):
    return verdict.decide(ranks.signed_rank(units), delta, level, level)


@pytest.mark.parametrize(
    ("units", "word"),
    [
        ((0.04, 0.05, 0.06, 0.05, 0.045, 0.055), "REGRESSED"),
        ((-0.04, -0.05, -0.06, -0.05, -0.045, -0.055), "IMPROVED"),
        ((0.001, -0.001, 0.002, -0.002, 0.0, 0.001), "SAME"),
        # Beside zero, but less than what matters: the same for who asked for 2%.
        ((0.005, 0.006, 0.004, 0.005, 0.006, 0.005), "SAME"),
        # Beside zero, and perhaps more than matters.
        ((0.001, 0.012, 0.018, 0.030, 0.010, 0.022), "INCONCLUSIVE"),
        ((-0.05, 0.06, -0.04, 0.05, 0.01, -0.02), "INCONCLUSIVE"),
    ],
)
def test_each_rule_of_the_table_gives_its_verdict(units, word):
    assert judged(units) == word


@given(st.lists(st.floats(min_value=-0.2, max_value=0.2), min_size=1, max_size=10))
def test_sides_that_change_places_mirror_the_verdict(units):
    word = judged(units)
    assert judged([-u for u in units]) == MIRROR.get(word, word)


def test_pitfall_34_too_few_pairs_are_refused_before_they_are_measured():
    with pytest.raises(QuestionError, match="needs 6 pairs, and 7 where it is looked at 3 times"):
        verdict.looks(5)


def test_pitfall_34_too_few_pairs_establish_nothing_however_large_the_change():
    assert judged([1.0] * 5) == "INCONCLUSIVE"


def test_the_looks_are_at_7_10_and_14_pairs():
    assert verdict.looks(7) == (7, 10, 14)


def test_pitfall_35_of_many_benchmarks_hardly_a_suite_raises_a_false_alarm():
    """40 benchmarks without a change, 200 suites: each benchmark at 95% alarms in most suites."""
    rng, suites, alarms, naive = random.Random(5), 200, 0, 0
    for _ in range(suites):
        shifts = [ranks.signed_rank([rng.gauss(0, 0.05) for _ in range(12)]) for _ in range(40)]
        levels = verdict.holm([s.p_value for s in shifts])
        words = [verdict.decide(s, 0.001, v, 0.05) for s, v in zip(shifts, levels, strict=True)]
        alarms += "REGRESSED" in words or "IMPROVED" in words
        naive += any(verdict.decide(s, 0.001, 0.05, 0.05) in MIRROR for s in shifts)
    assert alarms / suites <= 0.05
    assert naive / suites > 0.5


def test_levels_of_a_family_are_holms():
    """Holm (1979): 0.05/4, 0.05/3, and from the first that fails on its own level."""
    levels = verdict.holm([0.20, 0.001, 0.03, 0.015])
    assert levels == pytest.approx((0.025, 0.0125, 0.025, 0.05 / 3))


def test_pitfall_36_a_noisy_sample_of_a_real_slowdown_is_never_the_same():
    rng = random.Random(6)
    words = [judged([rng.gauss(0.05, 0.08) for _ in range(7)]) for _ in range(300)]
    assert words.count("INCONCLUSIVE") > 200
    assert "SAME" not in words


def test_a_planted_slowdown_is_found_and_sameness_shown_where_noise_is_small():
    rng = random.Random(7)
    slow = [judged([rng.gauss(0.05, 0.01) for _ in range(7)]) for _ in range(100)]
    same = [judged([rng.gauss(0, 0.005) for _ in range(7)]) for _ in range(100)]
    assert slow.count("REGRESSED") >= 95
    assert same.count("SAME") >= 95


@pytest.mark.parametrize(
    ("words", "strict", "code"),
    [
        (["SAME", "IMPROVED"], True, 0),
        (["SAME", "INCONCLUSIVE"], False, 0),
        (["SAME", "INCONCLUSIVE"], True, 3),
        (["INCONCLUSIVE", "INCOMPARABLE"], True, 5),
        (["INCOMPARABLE", "REGRESSED"], False, 1),
        (["REGRESSED", "FAILED"], False, 4),
        ([], True, 0),
    ],
    ids=str,
)
def test_the_gravest_verdict_is_the_exit_code(words, strict, code):
    assert verdict.exit_code(words, strict) == code


def test_pitfall_38_256_regressions_do_not_wrap_to_success():
    assert verdict.exit_code(["REGRESSED"] * 256, strict=False) == 1
