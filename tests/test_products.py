"""Matrix products as they are timed: the operands, their layout, and what is left out."""

import pytest
import torch

from gptbench.calibration import Effort, Shape, Wanted, square
from gptbench.worker import calibrate, products
from gptbench.worker.clock import HostClock
from gptbench.worker.products import Pool

CPU = torch.device("cpu")
ROOM = 1 << 30
QUICK = Effort(load_s=0.0, rounds=2, round_s=0.001, least_marks=1, most_s=0.001)
RECTANGLES = [
    Shape(3, 5, 7),
    Shape(3, 5, 7, "NT"),
    Shape(3, 5, 7, "TN"),
    Shape(3, 5, 7, "NT", batch=4),
]


def timed(wanted, room=ROOM):
    return products.times(CPU, wanted, HostClock(), QUICK, room)


@pytest.mark.parametrize("shape", RECTANGLES, ids=lambda s: f"{s}{s.layout}")
def test_a_call_multiplies_its_operands(shape):
    pool = Pool(CPU, "float32", [shape], ROOM)
    left, right, out = pool._set(shape, 0)
    pool.call(shape)()
    torch.testing.assert_close(out, left @ right)
    assert out.shape[-2:] == (3, 7)


@pytest.mark.parametrize(
    ("layout", "stored"), [("NN", (True, True)), ("NT", (True, False)), ("TN", (False, True))]
)
def test_a_letter_t_is_an_operand_that_is_stored_transposed(layout, stored):
    left, right, _ = Pool(CPU, "float32", [Shape(3, 5, 7)], ROOM)._set(Shape(3, 5, 7, layout), 0)
    assert (left.is_contiguous(), right.is_contiguous()) == stored


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_operands_are_random_and_results_are_of_the_size_of_one(dtype):
    shape = square(256)
    pool = Pool(CPU, dtype, [shape], ROOM)
    left, right, out = pool._set(shape, 0)
    pool.call(shape)()
    assert len(set(left.flatten().tolist())) > 1000
    assert not torch.equal(left, right)
    assert 0.5 < float(out.float().std()) < 2


def test_three_sets_of_operands_take_turns():
    pool = Pool(CPU, "float32", [square(16)], ROOM)
    found = [pool._set(square(16), index) for index in range(3)]
    assert len({tensor.data_ptr() for operands in found for tensor in operands}) == 9
    call = pool.call(square(16))
    for _ in range(3):
        call()
    for left, right, out in found:
        torch.testing.assert_close(out, left @ right)


def test_where_three_sets_do_not_fit_one_serves():
    one_set = 4 * products._held([square(64)])
    pool = Pool(CPU, "float32", [square(64)], room_bytes=2 * one_set)
    assert pool._numbers.numel() == 2 * 64 * 64


def test_a_product_that_does_not_fit_is_left_out_and_told():
    found = timed(Wanted(dtype="float32", ladder=(square(32), square(4096))), room=1 << 20)
    assert [t.shape for t in found.products] == [square(32)]
    assert [(o.shape, o.why) for o in found.left_out] == [(square(4096), "too large")]


def test_products_that_fit_alone_and_not_together_are_not_all_timed():
    # One has large operands and the other a large result; both are made beside each other.
    inner, outer = Shape(16, 8192, 16), Shape(512, 16, 512)
    room = 4 * (outer.numbers + 1000)
    assert len(timed(Wanted(dtype="float32", ladder=(), shapes=(inner,)), room).products) == 1
    assert len(timed(Wanted(dtype="float32", ladder=(), shapes=(outer,)), room).products) == 1
    both = timed(Wanted(dtype="float32", ladder=(), shapes=(inner, outer)), room)
    assert (len(both.products), len(both.left_out)) == (1, 1)


def test_where_nothing_fits_nothing_is_timed():
    found = timed(Wanted(dtype="float32", ladder=(), shapes=(square(4096),)), room=1 << 20)
    assert (found.products, len(found.left_out)) == ((), 1)


def test_a_ladder_ends_before_a_rung_that_would_take_too_long(monkeypatch):
    monkeypatch.setattr(products, "SLOWEST_S", 0.0)
    found = timed(Wanted(dtype="bfloat16", ladder=(square(32), square(64), square(96))))
    assert [t.shape for t in found.products] == [square(32)]
    assert {o.why for o in found.left_out} == {"too slow"}


def test_what_is_asked_for_is_timed_however_slow(monkeypatch):
    monkeypatch.setattr(products, "SLOWEST_S", 0.0)
    wanted = Wanted(dtype="float32", ladder=(square(32), square(64)), shapes=(square(64),))
    assert [t.shape for t in timed(wanted).products] == [square(32), square(64)]


def test_a_shape_that_is_asked_for_twice_is_timed_once():
    found = timed(Wanted(dtype="float32", ladder=(square(32),), shapes=(square(32),) * 2))
    assert [t.shape for t in found.products] == [square(32)]


def test_a_peak_is_the_best_of_its_squares(monkeypatch):
    monkeypatch.setattr(calibrate, "PEAK_SIDES", (64, 256))
    monkeypatch.setattr(calibrate, "PEAK_EFFORT", QUICK)
    rate, shape = calibrate.matmul_peak(CPU, "float32")
    assert rate > 0
    assert shape in ("64×64×64", "256×256×256")
