"""Any table as CSV (RFC 4180): numbers in base units and full precision, unknown ones empty."""

import csv
import io

from gptbench.report.table import DASH, FORMULA_STARTS, Cell, Column, Table


def guarded(text: str) -> str:
    """Text that no spreadsheet runs: a quote before what would be a formula."""
    return f"'{text}" if text.startswith(tuple(FORMULA_STARTS)) else text


def table_csv(table: Table) -> str:
    """One line a row beneath a header; title and notes are left out."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_heading(column) for column in table.columns)
    writer.writerows((_plain(cell) for cell in row) for row in table.rows)
    return file.getvalue()


def _heading(column: Column) -> str:
    return f"{column.name} ({column.unit})" if column.unit else column.name


def _plain(cell: Cell) -> str | float:
    if not isinstance(cell, str):
        return cell.value
    return "" if cell == DASH else guarded(cell.strip())
