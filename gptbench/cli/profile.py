"""gptbench profile."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gptbench import profile, waterfall
from gptbench.cli.answer import progress_bar, show
from gptbench.cli.options import Format, FormatOption
from gptbench.cli.question import asking
from gptbench.report import caveats, profiles
from gptbench.throughput import Question


@asking
def command(
    question: Question,
    format: FormatOption = Format.table,
) -> None:
    """Find out where a step's time goes: all of it, divided without remainder.

    Example: gptbench profile gpt2-small --gpu a100
    """
    with progress_bar() as progress:
        found = profile.run(question, None, progress)
    derived = waterfall.derive(found)
    show(format, profiles.tables(found, derived), lambda: waterfall.document(found, derived))
    sys.stdout.flush()
    for caveat in derived.caveats:
        print(f"Note: {caveats.sentence(caveat)}", file=sys.stderr)
