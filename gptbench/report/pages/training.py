"""The page of a training, train.html: how the loss went down, and what came of it."""

from pathlib import Path

from gptbench.report import delimited, learning, lossplot
from gptbench.report.pages.parts import Chart, Number, csv_file, render
from gptbench.trainrecord import TrainRecord

CAPTION = (
    "Losses in nats a token. Training losses are with dropout, on the text of the step; validation "
    "losses without it, always on the same text, which is never trained on."
)


def page(rec: TrainRecord) -> str:
    """The whole page; the same record gives the same bytes."""
    return render(
        "training.html.j2",
        title=f"{rec.model.name} learns {Path(rec.data).name}",
        summary=learning.summary(rec),
        setting=learning.setting(rec),
        numbers=tuple(Number(*number) for number in learning.numbers(rec)),
        curve=Chart(
            "How the loss went down", lossplot.curve(rec), CAPTION, learning.looks(rec), "looks.csv"
        ),
        answer=learning.result(rec),
        command=rec.command,
        provenance=learning.provenance(rec),
        data=csv_file("train.csv", delimited.table_csv(learning.tidy(rec))),
        data_note="Every point of the curve.",
        version=rec.gptbench_version,
    )
