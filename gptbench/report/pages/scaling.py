"""The page of scaling laws, scaling.html: what a budget is best spent on."""

from gptbench import __version__
from gptbench.budget import Answer
from gptbench.report import delimited, frontiers, scalings
from gptbench.report.pages.parts import Chart, csv_file, render

CAPTION = (
    "A point is a run; the line is the fitted law at its best for each budget, and beyond the points "
    "an extrapolation. Beside it are laws of others: Kaplan's counts parameters without embeddings."
)


def page(found: Answer, command: str) -> str:
    """The whole page; the same answer gives the same bytes."""
    tables = scalings.tables(found)
    text = "\n".join(map(delimited.table_csv, tables))
    return render(
        "scaling.html.j2",
        title="Scaling laws",
        summary="; ".join(table.title for table in tables[:2]) + ".",
        setting="Predictions: of published laws, or of a law that was fitted to runs.",
        frontier=_frontier(found),
        tables=tables,
        command=command,
        data=csv_file("scaling.csv", text),
        data_note="",
        version=__version__,
    )


def _frontier(found: Answer) -> Chart | None:
    if found.fit is None:
        return None
    return Chart(
        "Where a budget is best spent",
        frontiers.frontier(found.fit),
        CAPTION,
        scalings.runs(found.fit, found.unfinished),
        "runs.csv",
    )
