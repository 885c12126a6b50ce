"""Student's t against the table of every textbook and against SciPy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gptbench import student
from gptbench.student import StudentShift

LEVELS = st.floats(min_value=1e-6, max_value=0.999)
DEGREES = st.integers(min_value=1, max_value=60)


@pytest.mark.parametrize(
    ("level", "freedom", "expected"),
    [(0.05, 1, 12.706), (0.05, 2, 4.303), (0.05, 4, 2.776), (0.1, 3, 2.353), (0.05, 30, 2.042)],
)
def test_quantiles_are_those_of_the_table(level, freedom, expected):
    assert student.quantile(level, freedom) == pytest.approx(expected, abs=5e-4)


@given(LEVELS, DEGREES)
def test_quantiles_are_scipys(level, freedom):
    expected = stats.t.ppf(1 - level / 2, freedom)
    assert student.quantile(level, freedom) == pytest.approx(expected, rel=1e-6)


@given(st.floats(min_value=0, max_value=50), DEGREES)
def test_chances_are_scipys(t, freedom):
    assert student.beyond(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), abs=1e-9)


@given(LEVELS, DEGREES)
def test_the_p_value_is_the_level_whose_interval_ends_at_zero(level, freedom):
    shift = StudentShift(student.quantile(level, freedom) * 0.5, 0.5, freedom)
    assert shift.p_value == pytest.approx(level, abs=1e-9)
    assert shift.interval(level)[0] == pytest.approx(0, abs=1e-9)
