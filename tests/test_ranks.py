"""Shifts by ranks, held against scipy, published tables, and what they promise."""

import math
import random
import statistics

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from gptbench import ranks

values = st.lists(st.floats(min_value=-10, max_value=10), min_size=2, max_size=12, unique=True)


def continuous(series):
    """Whether no two Walsh averages tie, nor one with zero: what exact tests are made for."""
    averages = ranks.signed_rank(series).differences
    return len(set(averages)) == len(averages) and 0 not in averages


@pytest.mark.parametrize(
    ("n", "at_most", "tail"),
    [(5, 0, 0.031), (6, 2, 0.047), (7, 2, 0.023), (8, 3, 0.020), (10, 8, 0.024), (12, 13, 0.021)],
)
def test_signed_ranks_are_distributed_as_the_published_table_says(n, at_most, tail):
    """Hollander and Wolfe (1999), Table A.4: upper tails, which are the lower ones too."""
    assert round(ranks.Counted(ranks.signed_rank_ways(n)).at_most(at_most), 3) == tail


@pytest.mark.parametrize(("m", "n"), [(1, 1), (2, 3), (6, 6), (5, 9)])
def test_rank_sums_are_counted_as_by_hand(m, n):
    """Every way in which m of m + n values can be chosen, and the pairs the wrong way round."""
    ways = ranks.rank_sum_ways(m, n)
    assert sum(ways) == math.comb(m + n, m)
    assert ways == ways[::-1]
    assert ways[:2] == (1, 1)


@given(values)
def test_the_p_value_of_pairs_is_scipys(series):
    assume(continuous(series))
    theirs = scipy_stats.wilcoxon(series, method="exact").pvalue
    assert ranks.signed_rank(series).p_value == pytest.approx(theirs)


@given(values, values)
def test_the_p_value_of_two_samples_is_scipys(base, new):
    assume(not set(base) & set(new))
    shift = ranks.rank_sum(base, new)
    assume(0 not in shift.differences)
    theirs = scipy_stats.mannwhitneyu(new, base, method="exact").pvalue
    assert shift.p_value == pytest.approx(theirs)


def test_beyond_counting_the_p_value_is_scipys_normal_one():
    rng = random.Random(1)
    base, new = ([rng.gauss(m, 1) for _ in range(120)] for m in (0, 0.3))
    theirs = scipy_stats.mannwhitneyu(new, base, method="asymptotic").pvalue
    assert ranks.rank_sum(base, new).p_value == pytest.approx(theirs, rel=1e-3)


def test_counted_and_approximate_bounds_of_large_samples_agree(monkeypatch):
    rng = random.Random(2)
    base, new = ([rng.gauss(m, 1) for _ in range(60)] for m in (0, 0.5))
    counted = ranks.rank_sum(base, new).interval(0.05)
    monkeypatch.setattr(ranks, "EXACT_DIFFERENCES", 0)
    assert ranks.rank_sum(base, new).interval(0.05) == pytest.approx(counted, abs=0.01)


def test_six_pairs_reach_from_the_least_to_the_largest():
    assert ranks.signed_rank([1, 2, 3, 4, 5, 6]).interval(0.05) == (1, 6)


def test_five_pairs_have_no_interval_at_95_percent():
    assert ranks.signed_rank([1, 2, 3, 4, 5]).interval(0.05) == (-math.inf, math.inf)


@pytest.mark.parametrize(("comparisons", "pairs"), [(1, 6), (3, 7), (4, 8), (20, 10)])
def test_the_fewest_pairs_of_a_family_are_those_of_a_pencil(comparisons, pairs):
    """All n of one sign have a chance of 2 / 2^n: n is at least log2(2 M / 0.05)."""
    assert ranks.fewest_pairs(0.05 / comparisons) == pairs


def test_the_fewest_replicates_a_side_are_those_of_a_pencil():
    """4 of each: 2 / C(8, 4) = 2 / 70 = 2.9%; 3 of each: 2 / 20 = 10%."""
    assert ranks.fewest_each(0.05) == 4


def test_the_estimate_is_the_median_of_the_walsh_averages():
    """Of 1, 2 and 9: 1, 1.5, 2, 5, 5.5, 9, whose median is 3.5."""
    assert ranks.signed_rank([1, 2, 9]).estimate == 3.5


@given(values, st.floats(min_value=-5, max_value=5))
def test_what_is_added_to_all_values_is_added_to_the_shift(series, extra):
    moved = ranks.signed_rank([v + extra for v in series]).estimate
    assert moved == pytest.approx(ranks.signed_rank(series).estimate + extra, abs=1e-9)


@given(values, values)
def test_sides_that_change_places_mirror_the_shift(base, new):
    one, other = ranks.rank_sum(base, new), ranks.rank_sum(new, base)
    low, high = one.interval(0.1)
    assert other.estimate == pytest.approx(-one.estimate)
    assert other.interval(0.1) == pytest.approx((-high, -low))


@given(values)
def test_the_estimate_lies_within_every_interval(series):
    shift = ranks.signed_rank(series)
    low, high = shift.interval(0.2)
    assert low <= shift.estimate <= high


@given(values, st.floats(min_value=0.001, max_value=0.9))
def test_an_interval_leaves_zero_out_where_the_p_value_is_within_the_level(series, level):
    shift = ranks.signed_rank(series)
    low, high = shift.interval(level)
    assert (low > 0 or high < 0) == (shift.p_value <= level)


@pytest.mark.parametrize("n", [6, 7, 14])
def test_intervals_of_pairs_hold_the_truth_as_often_as_they_say(n):
    rng, trials = random.Random(3), 1000
    found = (
        ranks.signed_rank([rng.gauss(1, 2) for _ in range(n)]).interval(0.05) for _ in range(trials)
    )
    assert sum(low <= 1 <= high for low, high in found) / trials >= 0.94


def test_intervals_of_replicates_hold_the_truth_as_often_as_they_say():
    rng, trials = random.Random(4), 1000
    held = 0
    for _ in range(trials):
        base, new = ([rng.gauss(m, 1) for _ in range(6)] for m in (0, 0.5))
        low, high = ranks.rank_sum(base, new).interval(0.05)
        held += low <= 0.5 <= high
    assert held / trials >= 0.94


@given(st.floats(min_value=-3, max_value=3), st.floats(min_value=0.01, max_value=3))
def test_a_normal_shift_is_the_z_test(middle, error):
    shift = ranks.NormalShift(middle, error)
    normal = statistics.NormalDist(middle, error)
    assert shift.interval(0.05) == pytest.approx((normal.inv_cdf(0.025), normal.inv_cdf(0.975)))
    assert shift.p_value == pytest.approx(2 * scipy_stats.norm.sf(abs(middle) / error))
