"""A table as plain data: text, Markdown, CSV and HTML are made from it.

A cell is text, or a Quantity: a number in base units with the text a person reads. An unknown value
is a dash and never a zero.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from gptbench.units import grouped, percent, si

DASH = "—"

# A spreadsheet takes a cell that begins so for a formula and runs it (OWASP, "CSV injection").
FORMULA_STARTS = "=+-@"


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in base units and how it is shown: CSV and sorting take it, people read the text."""

    value: float
    text: str

    def __str__(self) -> str:
        return self.text


class Link(str):
    """Text that a page makes a link of; everything else shows the text."""

    __slots__ = ("href",)

    href: str

    def __new__(cls, text: str, href: str) -> Self:
        link = super().__new__(cls, text)
        link.href = href
        return link


Cell = str | Quantity


@dataclass(frozen=True, slots=True)
class Column:
    """`unit` is the base unit of its quantities. Prose `wraps`; nothing else is ever broken.

    A `spare` column is left out where a terminal is too narrow for it.
    """

    name: str
    right: bool = False
    unit: str = ""
    wraps: bool = False
    spare: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A title, rows under columns, notes beneath; the last `total_rows` rows are totals."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    total_rows: int = 0

    @property
    def body(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[: len(self.rows) - self.total_rows]

    @property
    def untotalled(self) -> "Table":
        """The same without totals, which whoever sums a column would count twice."""
        return replace(self, rows=self.body, total_rows=0)

    @property
    def totals(self) -> tuple[tuple[Cell, ...], ...]:
        return self.rows[len(self.rows) - self.total_rows :]


def count(number: int) -> Quantity:
    """A whole number: 124,439,808."""
    return Quantity(number, grouped(number))


def scaled(value: float) -> Quantity:
    """A number with a decimal prefix: 291.6 G."""
    return Quantity(value, si(value))


def share(fraction: float) -> Quantity:
    """A fraction as a percentage: 41.2%."""
    return Quantity(fraction, percent(fraction))


def known(value: float | None, show: Callable[[float], str]) -> Cell:
    """A number as `show` writes it, or a dash where it is unknown."""
    return DASH if value is None else Quantity(value, show(value))
