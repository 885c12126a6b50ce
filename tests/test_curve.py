"""Which batch sizes are timed, and which one is used."""

import random

import pytest

from gptbench import curve
from gptbench.errors import OutOfMemoryError
from gptbench.record import CurvePoint, Round

S = 1_000_000_000


def point(batch_size, *speeds):
    """A batch size with rounds of so many sequences a second."""
    rounds = tuple(Round(steps=10, window_ns=round(10 * batch_size / s * S)) for s in speeds)
    return CurvePoint(batch_size=batch_size, rounds=rounds, peak_memory_bytes=batch_size << 20)


@pytest.mark.parametrize(
    ("largest", "multiple", "sizes"),
    [
        (1, 1, (1,)),
        (5, 1, (1, 2, 4, 5)),
        (62, 1, (1, 2, 4, 8, 16, 32, 46, 62)),
        (64, 1, (1, 2, 4, 8, 16, 32, 64)),
        (72, 8, (8, 16, 32, 64, 72)),
        (120, 8, (8, 16, 32, 64, 88, 120)),
    ],
)
def test_the_curve_is_over_powers_of_two_and_the_largest(largest, multiple, sizes):
    assert curve.candidates(largest, multiple) == sizes


@pytest.mark.parametrize("multiple", [1, 3, 8])
def test_every_size_of_the_curve_is_a_multiple_that_fits(multiple):
    for largest in range(multiple, 300, multiple):
        sizes = curve.candidates(largest, multiple)
        assert all(size % multiple == 0 and size <= largest for size in sizes)


def test_the_smallest_within_a_percent_of_the_fastest_is_chosen():
    points = [point(1, 50), point(8, 98.9), point(16, 99.1), point(32, 100), point(62, 99.9)]
    assert curve.chosen(points) == 16


def test_the_speed_of_a_size_is_the_median_of_its_rounds():
    assert curve.sequences_per_s(point(8, 90, 100, 10)) == pytest.approx(90)


def test_the_spread_is_between_the_fastest_and_the_slowest_round():
    assert curve.spread(point(8, 98, 100, 103)) == pytest.approx(0.05)


def order_of(speeds):
    tried = []

    def measure(size):
        tried.append(size)
        return point(size, speeds[size])

    return curve.measured(sorted(speeds), measure), tried


def test_sizes_that_may_be_the_fastest_are_timed_again_in_the_other_direction():
    points, tried = order_of({1: 40, 2: 70, 4: 96, 8: 100, 16: 99})
    assert tried == [1, 2, 4, 8, 16, 16, 8, 4, 4, 8, 16]
    assert [len(p.rounds) for p in points] == [1, 1, 3, 3, 3]


def test_the_memory_of_a_size_is_the_most_of_its_rounds():
    peaks = iter([5, 9, 7])
    (only,) = curve.measured(
        [1],
        lambda b: CurvePoint(
            batch_size=b, rounds=(Round(steps=1, window_ns=S),), peak_memory_bytes=next(peaks)
        ),
    )
    assert only.peak_memory_bytes == 9


def test_a_size_that_runs_out_of_memory_in_any_round_is_not_on_the_curve():
    def measure(size):
        tried.append(size)
        return None if size == 8 and tried.count(8) == 2 else point(size, 100)

    tried = []
    points = curve.measured([1, 2, 8], measure)
    assert [p.batch_size for p in points] == [1, 2]
    assert tried.count(8) == 2


def test_where_every_size_runs_out_of_memory_there_is_no_curve():
    with pytest.raises(OutOfMemoryError, match="sizes 1, 2 fitted two steps, and none"):
        curve.measured([1, 2], lambda _: None)


def test_a_machine_that_slows_down_as_it_goes_does_not_choose():
    """All sizes are alike; each round is 0.4% slower than the one before."""
    rng, taken = random.Random(1), 0

    def measure(size):
        nonlocal taken
        taken += 1
        return point(size, 100 * 0.996**taken * rng.gauss(1, 0.0005))

    assert curve.chosen(curve.measured([1, 2, 4], measure)) == 1
