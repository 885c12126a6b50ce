"""What all pages are made of: their templates, key numbers, charts with their data, downloads.

A page is whole without its script, which sorts and filters tables and switches the theme. Whatever
a person has named is text on it: every value is escaped but the charts, which hold no names.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gptbench.report import checks, delimited
from gptbench.report.checks import Check
from gptbench.report.table import Table

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True, slots=True)
class Number:
    """A key number: its name, its value, and the interval or convention it comes with."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the page carries: saved by a click, without a script and without a network."""

    name: str
    href: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart under its heading, and the table of what it draws.

    The same is a file called `name`, with `rows` where they are finer than those of the table.
    """

    heading: str
    svg: str
    caption: str
    data: Table
    name: str
    rows: Table | None = None

    @property
    def file(self) -> Download:
        return csv_file(self.name, delimited.table_csv((self.rows or self.data).untotalled))


@dataclass(frozen=True, slots=True)
class Trust:
    """How far to trust a page: a sentence, what to read, and every check as a table."""

    sentence: str
    findings: tuple[Check, ...]
    table: Table


def trust(made: Sequence[Check]) -> Trust:
    """What came of the checks of a page."""
    to_read = tuple(check for check in made if check.outcome == "read")
    return Trust(checks.said(made), to_read, checks.table(made))


def csv_file(name: str, text: str) -> Download:
    """A CSV as a file within the page."""
    encoded = base64.b64encode(text.encode()).decode()
    return Download(name, f"data:text/csv;charset=utf-8;base64,{encoded}")


def moment(started_at: str) -> str:
    """'2026-01-02T03:04:05+00:00' -> '2026-01-02 03:04:05 UTC'."""
    return started_at.removesuffix("Z").removesuffix("+00:00").replace("T", " ") + " UTC"


def joined(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def render(template: str, **facts: Any) -> str:
    """The page of a template; the same facts give the same bytes."""
    return _TEMPLATES.get_template(template).render(**facts)
