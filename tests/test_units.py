"""Numbers to text and back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbench import units
from gptbench.errors import QuestionError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1024B", 1024),
        ("2GiB", 2 * 1024**3),
        ("2 gib", 2 * 1024**3),
        ("2G", 2 * 1024**3),
        ("4g", 4 * 1024**3),
        ("2GB", 2 * 1000**3),
        ("500 MB", 500 * 1000**2),
        ("500MiB", 500 * 1024**2),
        ("7kB", 7000),
        ("7KiB", 7168),
        ("1.5T", 3 * 1024**4 // 2),
        ("1e3", 1000),
    ],
)
def test_sizes_read_as_people_mean_them(text, size):
    assert units.parse_bytes(text) == size


NOT_SIZES = [
    "", " ", "3 bananas", "0", "0GiB", "0.2", "-1", "-1GiB", "+1", "1e400", "1e308TiB", "nan", "inf",
    "GiB", "1 G iB", "1,5GiB", "0x10", "1e", "1.2.3", "1PiB", "2GiB/s", "1\u212aB", "\u0661GiB",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_SIZES)
def test_what_is_no_size_is_refused_with_its_text(text):
    with pytest.raises(QuestionError) as refusal:
        units.parse_bytes(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("125TFLOP/s", 125e12),
        ("125 TFLOPS", 125e12),
        ("1.5 PFLOPS", 1.5e15),
        ("989.4 tflop/s", 989.4e12),
        ("9.3e12 FLOP/s", 9.3e12),
        ("40 GFLOPs", 40e9),
        ("3kflop/s", 3e3),
        ("2 EFLOP/s", 2e18),
    ],
)
def test_rates_read_as_people_mean_them(text, rate):
    assert units.parse_flops_per_s(text) == pytest.approx(rate, rel=1e-12)


NOT_RATES = [
    "", "125", "125T", "125TB/s", "3 bananas", "0TFLOP/s", "-1TFLOP/s", "1e400FLOP/s",
    "1e308EFLOP/s", "nanFLOP/s", "infTFLOP/s", "TFLOP/s", "1 TiFLOP/s", "125TFLOP/h",
    "5\u212aFLOP/s",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_RATES)
def test_what_is_no_rate_is_refused_with_its_text(text):
    with pytest.raises(QuestionError) as refusal:
        units.parse_flops_per_s(text)
    assert repr(text) in str(refusal.value)


@given(st.text(max_size=20))
def test_no_text_at_all_breaks_the_parsers(text):
    for parse in (units.parse_bytes, units.parse_flops_per_s):
        try:
            value = parse(text)
        except QuestionError:
            continue
        assert 0 < value < math.inf


@given(st.floats(min_value=1e3, max_value=1e20))
def test_a_formatted_rate_reads_back_within_its_digits(rate):
    assert units.parse_flops_per_s(units.si(rate, "FLOP/s")) == pytest.approx(rate, rel=6e-4)


@given(st.integers(min_value=1024, max_value=2**49))
def test_a_formatted_size_reads_back_within_its_digits(size):
    assert units.parse_bytes(units.gib(size)) == pytest.approx(size, rel=6e-3)


@given(st.integers(min_value=1, max_value=2**60))
def test_a_bare_number_of_bytes_is_itself(size):
    assert units.parse_bytes(str(size)) == pytest.approx(size, rel=2**-52)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (0.5, "0.500"),
        (1000, "1.000 k"),
        (1536, "1.536 k"),
        (291_648_307_200, "291.6 G"),
        (10_520_110_694_400, "10.52 T"),
        (124_439_808, "124.4 M"),
        (-2_000_000, "-2.000 M"),
        (math.inf, "inf"),
        (math.nan, "nan"),
    ],
)
def test_counts_take_decimal_prefixes(value, text):
    assert units.si(value) == text


def test_a_count_takes_its_unit_behind_the_prefix():
    assert units.si(312e12, "FLOP/s") == "312.0 TFLOP/s"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (2**31, "2.00 GiB"),
        (80e9, "74.51 GiB"),
        (3 * 2**40, "3.00 TiB"),
    ],
)
def test_memory_takes_binary_prefixes(size, text):
    assert units.gib(size) == text


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (0, "0 ns"),
        (5e-9, "5 ns"),
        (12.5e-6, "12.5 µs"),
        (0.04183, "41.83 ms"),
        (1.0, "1 s"),
        (75.25, "75.25 s"),
        (12_345.6, "12346 s"),
    ],
)
def test_durations_take_the_unit_a_person_would_choose(time_s, text):
    assert units.seconds(time_s) == text


def test_fractions_become_percentages():
    assert (units.percent(0.4123), units.percent(1), units.percent(0.00126, 2)) == (
        "41.2%",
        "100.0%",
        "0.13%",
    )


def test_whole_numbers_are_grouped_by_thousands():
    assert units.grouped(1_557_611_200) == "1,557,611,200"


# -- counts, fractions, long times ------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("300B", 300e9),
        ("300e9", 300e9),
        ("300 b", 300e9),
        ("1.5T", 1.5e12),
        ("868k", 868e3),
        ("2M", 2e6),
        ("7G", 7e9),
        ("1000", 1000),
    ],
)
def test_counts_read_as_people_write_them(text, count):
    assert units.parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-1", "B", "3 bananas", "1P", "nan", "inf", "1e400"])
def test_what_is_no_count_is_refused_with_its_text(text):
    with pytest.raises(QuestionError) as refusal:
        units.parse_count(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(("text", "share"), [("0.45", 0.45), ("45%", 0.45), ("1", 1), ("100%", 1)])
def test_fractions_read_as_people_write_them(text, share):
    assert units.parse_fraction(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "0", "45", "101%", "-0.1", "1.01", "half", "%", "nan"])
def test_what_is_no_fraction_is_refused_with_its_text(text):
    with pytest.raises(QuestionError) as refusal:
        units.parse_fraction(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize(
    ("time_s", "text"),
    [
        (12.5, "12.5 s"),
        (3600, "1.00 hours"),
        (86399, "24.0 hours"),
        (86400, "1.00 days"),
        (345600, "4.00 days"),
        (86400 * 365.0, "365 days"),
        (86400 * 12345.0, "12,345 days"),
    ],
)
def test_long_times_are_in_hours_or_days(time_s, text):
    assert units.duration(time_s) == text


# -- times and energies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("60s", 60),
        ("90", 90),
        ("500 ms", 0.5),
        ("2min", 120),
        ("5m", 300),
        ("1h", 3600),
        ("1.5 sec", 1.5),
    ],
)
def test_a_time_is_read_in_the_unit_it_is_typed_in(text, time_s):
    assert units.parse_seconds(text) == time_s


@pytest.mark.parametrize("text", ["", "fast", "-1s", "0s", "5 parsecs", "1d", "nan", "60S"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(QuestionError, match="is not a time"):
        units.parse_seconds(text)


@pytest.mark.parametrize(
    ("energy_j", "text"),
    [
        (4.2e-7, "0.42 µJ"),
        (0.00123, "1.23 mJ"),
        (0.5, "500 mJ"),
        (12.0, "12 J"),
        (6120.0, "6.120 kJ"),
    ],
)
def test_energy_is_shown_in_the_unit_a_person_would_choose(energy_j, text):
    assert units.joules(energy_j) == text
