"""A shift whose scatter is estimated from few values: Student's t (Student 1908).

The distribution for a whole number of degrees of freedom is a finite sum: Abramowitz and Stegun
(1964), 26.7.3 and 26.7.4. Standard library only.
"""

import math
from dataclasses import dataclass

# A bracket of doubles is as narrow as it gets after so many halves.
HALVINGS = 200


@dataclass(frozen=True, slots=True)
class StudentShift:
    """A shift whose standard error was estimated with so many degrees of freedom, at least one."""

    estimate: float
    standard_error: float
    freedom: int

    def interval(self, level: float) -> tuple[float, float]:
        reach = quantile(level, self.freedom) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    @property
    def p_value(self) -> float:
        return beyond(abs(self.estimate) / self.standard_error, self.freedom)


def beyond(t: float, freedom: int) -> float:
    """The chance of a value further from zero than `t`, on either side."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * math.cos(angle) ** 2
    within = math.sin(angle) * total
    if odd:
        within = 2 / math.pi * (angle + within)
    return max(0.0, 1 - within)


def quantile(level: float, freedom: int) -> float:
    """How far from zero a value is with a chance of `level`: 4.303 of 5% with two degrees."""
    low, high = 0.0, 1.0
    while beyond(high, freedom) > level:
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if beyond(middle, freedom) > level:
            low = middle
        else:
            high = middle
    return high
