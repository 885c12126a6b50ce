"""Tables for GitHub: aligned in the source too, with nothing in a cell taken for markup."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gptbench.report.table import Cell, Column, Table

# A pull request's comment may have 65,536 characters; a summary that is too long is refused whole.
MOST_BYTES = 60_000

# Brackets are left alone where they make no link, underscores where they are inside of a word.
_SPECIAL = re.compile(r"[\\`*|~#]|\](?=[(\[])|(?<!\w)_|_(?!\w)")


def escape(text: str) -> str:
    """Text that GitHub shows as it is, on one line."""
    safe = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda found: "\\" + found[0], safe)


def render(table: Table) -> str:
    """The table with its title as a heading and its notes beneath; totals are bold."""
    header = tuple(escape(column.name) for column in table.columns)
    body = [tuple(escape(str(cell)) for cell in row) for row in table.body]
    body += [tuple(map(_bold, row)) for row in table.totals]
    widths = [max(3, *(len(row[i]) for row in (header, *body))) for i in range(len(header))]
    rules = (
        "-" * (width - 1) + ":" if column.right else "-" * width
        for column, width in zip(table.columns, widths, strict=True)
    )
    lines = [_line(row, table.columns, widths) for row in (header, tuple(rules), *body)]
    blocks = [f"### {escape(table.title)}", "\n".join(lines), *map(escape, table.notes)]
    return "\n\n".join(blocks) + "\n"


def bounded(table: Table, most_bytes: int) -> str:
    """The table with as many of its first rows as fit, and a line that says how many do not.

    Titles and notes count; a summary that is too long is refused whole by who shows it.
    """
    whole = render(table)
    if len(whole.encode()) <= most_bytes:
        return whole

    def cut(kept: int) -> str:
        omitted = f"{len(table.rows) - kept:,} more rows are omitted here."
        return render(replace(table, rows=table.rows[:kept], notes=(omitted, *table.notes)))

    fitting = range(len(table.rows))
    kept = bisect_right(fitting, most_bytes, key=lambda n: len(cut(n).encode())) - 1
    return cut(max(0, kept))


def document(
    tables: Sequence[Table], notes: Sequence[str] = (), most_bytes: int = MOST_BYTES
) -> str:
    """What is to be known, and the tables; details come last, and are the first to be left out."""
    known = "".join(f"> {escape(note)}\n\n" for note in notes)
    parts = [render(table) for table in tables]
    for i in reversed(range(len(parts))):
        excess = len((known + "\n".join(parts)).encode()) - most_bytes
        if excess > 0:
            parts[i] = bounded(tables[i], len(parts[i].encode()) - excess)
    return known + "\n".join(parts)


def _bold(cell: Cell) -> str:
    return f"**{escape(str(cell))}**" if str(cell) else ""


def _line(cells: tuple[str, ...], columns: Iterable[Column], widths: list[int]) -> str:
    padded = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    )
    return f"| {' | '.join(padded)} |"
