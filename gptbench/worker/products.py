"""Times matrix products on this very device."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from gptbench.calibration import (
    Effort,
    LeftOut,
    ProductTime,
    Shape,
    Timed,
    Wanted,
    number_bytes,
)
from gptbench.worker import rounds
from gptbench.worker.clock import Clock
from gptbench.worker.rounds import Call

# Operands of a product that take turns, so that the caches are not found filled by the last call.
SETS = 3

# Numbers between the beginnings of operands: a multiple of what any kernel wants aligned.
ALIGNED = 256

# A product of the ladder that would take longer is left out, and so are those above it.
SLOWEST_S = 0.5


def times(
    device: torch.device, wanted: Wanted, clock: Clock, effort: Effort, room_bytes: int
) -> Timed:
    """The time of every product that fits and does not rise too high.

    The operands are random numbers, not zeros, which switch fewer transistors: an H200 multiplies
    zeros 13% faster.
    """
    torch.backends.cuda.matmul.allow_tf32 = wanted.dtype == "tf32"
    every = list(dict.fromkeys((*wanted.ladder, *wanted.shapes)))
    fitting = _fitting(every, wanted.dtype, room_bytes)
    large = [shape for shape in every if shape not in fitting]
    if not fitting:
        return Timed(left_out=_left_out(large, "too large"))
    pool = Pool(device, wanted.dtype, fitting, room_bytes)
    ladder = [s for s in wanted.ladder if s in fitting and s not in wanted.shapes]
    slow = ladder[len(list(_climbed(ladder, pool, clock))) :]
    shapes = [shape for shape in fitting if shape not in slow]
    calls = [pool.call(shape) for shape in shapes]
    largest = max(range(len(shapes)), key=lambda i: shapes[i].flops)
    rounds.load(calls[largest], clock, effort.load_s)
    taken = rounds.timed(calls, clock, effort)
    return Timed(
        products=tuple(
            ProductTime(dtype=wanted.dtype, shape=shape, time=time)
            for shape, time in zip(shapes, taken, strict=True)
        ),
        left_out=_left_out(large, "too large") + _left_out(slow, "too slow"),
    )


def expected_s(wanted: Wanted, effort: Effort) -> float:
    """About how long `times` takes, for a progress bar."""
    products = len(wanted.ladder) + len(wanted.shapes)
    return effort.load_s + 1.3 * products * effort.rounds * effort.round_s


class Pool:
    """Random numbers that the operands of all products are views of.

    Made once, they let the products take turns without being filled anew, and take no more memory
    than the largest of them do. They are normal, of the scale that gives results around 1.
    """

    def __init__(
        self, device: torch.device, dtype: str, shapes: Sequence[Shape], room_bytes: int
    ) -> None:
        torch_dtype = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
        one_set = number_bytes(dtype) * _held(shapes)
        self._sets = SETS if SETS * one_set <= room_bytes / 2 else 1
        generator = torch.Generator(device).manual_seed(1)
        size = self._sets * max(_operands(shape) for shape in shapes)
        self._numbers = torch.randn(size, dtype=torch_dtype, device=device, generator=generator)
        self._numbers *= max(shape.k for shape in shapes) ** -0.25
        results = self._sets * max(_result(shape) for shape in shapes)
        self._results = torch.empty(results, dtype=torch_dtype, device=device)

    def call(self, shape: Shape) -> Call:
        """The product, on the next set of operands each time."""
        multiply = torch.mm if shape.batch == 1 else torch.bmm
        sets = itertools.cycle([self._set(shape, index) for index in range(self._sets)])

        def run() -> None:
            left, right, out = next(sets)
            multiply(left, right, out=out)

        return run

    def _set(self, shape: Shape, index: int) -> tuple[Tensor, Tensor, Tensor]:
        b, m, k, n = shape.batch, shape.m, shape.k, shape.n
        start = index * _operands(shape)
        left = _matrix(self._numbers[start:], (b, m, k), shape.layout[0] == "T")
        after = start + _aligned(b * m * k)
        right = _matrix(self._numbers[after:], (b, k, n), shape.layout[1] == "T")
        out = _matrix(self._results[index * _result(shape) :], (b, m, n), transposed=False)
        return left, right, out


def _matrix(numbers: Tensor, size: tuple[int, int, int], transposed: bool) -> Tensor:
    """The first numbers as (batch, rows, columns), or as two of them where there is no batch."""
    batch, rows, columns = size
    flat = numbers[: batch * rows * columns]
    stored = flat.view(batch, columns, rows).mT if transposed else flat.view(size)
    return stored if batch > 1 else stored[0]


def _operands(shape: Shape) -> int:
    b, m, k, n = shape.batch, shape.m, shape.k, shape.n
    return _aligned(b * m * k) + _aligned(b * k * n)


def _result(shape: Shape) -> int:
    return _aligned(shape.batch * shape.m * shape.n)


def _held(shapes: Sequence[Shape]) -> int:
    """Numbers of one set that serves all of these products: operands and a result."""
    return max(map(_operands, shapes)) + max(map(_result, shapes))


def _aligned(numbers: int) -> int:
    return -(-numbers // ALIGNED) * ALIGNED


def _fitting(shapes: Sequence[Shape], dtype: str, room_bytes: int) -> list[Shape]:
    """The shapes, without the largest of those that do not fit beside the others."""
    kept: list[Shape] = []
    for shape in sorted(shapes, key=lambda shape: shape.numbers):
        if _held([*kept, shape]) * number_bytes(dtype) <= room_bytes:
            kept.append(shape)
    return [shape for shape in shapes if shape in kept]


def _climbed(ladder: Sequence[Shape], pool: Pool, clock: Clock) -> Iterator[Shape]:
    """The rungs below the first that would take over SLOWEST_S, at the rate of the one before."""
    rate = 0.0
    for shape in ladder:
        if rate and shape.flops / rate > SLOWEST_S:
            return
        yield shape
        rate = shape.flops / rounds.single(pool.call(shape), clock)


def _left_out(
    shapes: Sequence[Shape], why: Literal["too large", "too slow"]
) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(shape=shape, why=why) for shape in shapes)
