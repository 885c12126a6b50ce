"""gptbench profile."""

import random
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from gptbench import documents, module_times, outputs, profile, tries, waterfall
from gptbench.cli.answer import progress_bar, show, write_files
from gptbench.cli.options import Format, FormatOption
from gptbench.cli.question import asking
from gptbench.errors import QuestionError
from gptbench.profiling import Profile
from gptbench.question import Question
from gptbench.report import caveats, modules, profiles
from gptbench.units import parse_seconds
from gptbench.waterfall import Waterfall


@partial(asking, refused=("precision", "time"))
def command(
    question: Question,
    depth: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show N levels of the model's tree.")
    ] = modules.DEPTH,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a trace for Perfetto or chrome://tracing."),
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FACTORY", help="Read your own module's data from here."),
    ] = None,
    try_: Annotated[
        bool,
        typer.Option("--try", help="Try the advice that is an option, beside the step as it is."),
    ] = False,
    try_time: Annotated[
        str | None,
        typer.Option("--try-time", metavar="T", help="Try each for T at the most (default: 60s)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write profile.json, .csv, .html."),
    ] = None,
    format: FormatOption = Format.table,
) -> None:
    """Find out where the time of a step goes: all of it, divided without remainder.

    Example: gptbench profile gpt2-small --gpu a100 --trace trace.json --out results
    """
    means = _means(question, try_time) if try_ else None
    if try_time is not None and means is None:
        raise QuestionError(f"--try-time {try_time} is for trials. Type --try with it.")
    folder = outputs.output_folder(out) if out else None
    with progress_bar() as progress:
        found = profile.run(question, trace, progress, batches)
        derived = waterfall.derive(found)
        waterfall.refuse_impossible(derived, found)
    if trace is not None:
        print(f"Wrote {trace}: drag it into ui.perfetto.dev.", file=sys.stderr)
    if folder is not None:
        write(folder, found, derived)
    last = found
    try:
        if means is not None:
            with progress_bar() as progress:
                for with_trial in tries.tried(found, derived, means, progress):
                    last = with_trial
    finally:
        # What took minutes is told whatever becomes of a trial.
        if folder is not None and last.tried:
            write(folder, last, derived)
        tell(format, last, derived, depth)


def _means(question: Question, time: str | None) -> tries.Means:
    """What trials are made with. Raises QuestionError for a time that is none."""
    time_s = tries.TIME_S if time is None else parse_seconds(time)
    return tries.Means(data=question.data, time_s=time_s, random=random.SystemRandom())


def tell(format: Format, found: Profile, derived: Waterfall, depth: int) -> None:
    """Give stdout the profile, and stderr what is to be known of it; as CSV what it is made of."""
    if format is Format.csv:
        tables = [profiles.tidy(found, derived)]
    else:
        tables = profiles.tables(found, derived, depth, indented=format is Format.table)
    notes = [f"Note: {caveats.sentence(caveat)}" for caveat in derived.caveats]
    show(format, tables, lambda: module_times.document(found, derived), notes)


def write(folder: Path, found: Profile, derived: Waterfall) -> None:
    """profile.json, profile.csv and profile.html, each whole or not at all."""
    from gptbench.report import delimited
    from gptbench.report.pages import profile as page

    files = {
        "profile.json": documents.dump_json(module_times.document(found, derived)),
        "profile.csv": delimited.table_csv(profiles.tidy(found, derived)),
        "profile.html": page.page(found, derived),
    }
    write_files(folder, files)
