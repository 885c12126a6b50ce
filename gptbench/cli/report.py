"""gptbench report."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gptbench import archive, conventions, documents, outputs
from gptbench.archive import Archive
from gptbench.cli.answer import show, show_results, write_reports
from gptbench.cli.options import ConventionOption, Format, FormatOption
from gptbench.conventions import Convention
from gptbench.errors import QuestionError
from gptbench.profiling import Profile
from gptbench.record import Record
from gptbench.report import modules
from gptbench.trainrecord import TrainRecord

# More results than this are an index, and no comparison side by side.
MOST_COMPARED = 40

# So many files without a result are named on stderr; the answer has all.
MOST_TOLD = 5


def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT...",
            help="Files that --out wrote, or folders of them: history, a sweep.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Write result.csv and report.html there."),
    ] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=FILE", help="Write FILE for a dashboard: github=FILE or bencher=FILE."
        ),
    ] = None,
    depth: Annotated[
        int, typer.Option(metavar="N", min=0, help="Show N levels of a profile's tree.")
    ] = modules.DEPTH,
    convention: ConventionOption = "exact",
    format: FormatOption = Format.table,
) -> None:
    """Make the tables and pages again, from stored results, profiles and trainings alone.

    A folder with several of them, or more than 40 results, makes an index: each benchmark over
    time, where its speed changed, and links to the results' own pages. A file in a folder that does
    not read is listed there.

    Example: gptbench report results/result.json --out results
    """
    from gptbench.report import exports

    counted = conventions.named(convention)
    folder = outputs.output_folder(out) if out else None
    exported = tuple(map(exports.parse, export or ()))
    found = archive.gathered(files)
    records = [one.value for one in found.records]
    if exported and not records:
        raise QuestionError("--export takes results, and there are none.")
    if _is_index(found):
        _index(found, counted, folder, format)
    elif found.profiles:
        _profile(found.profiles[0].value, folder, format, depth)
    elif found.trainings:
        _training(found.trainings[0].value, folder, format)
    else:
        _results(records, counted, folder, format)
    for kind, path in exported:
        outputs.write_whole(path, documents.dump_json(exports.KINDS[kind](records, counted)))
        print(f"Wrote {path}.", file=sys.stderr)


def _is_index(found: Archive) -> bool:
    """Whether there is too much for pages of single results, or what has no page together."""
    single = len(found.profiles) + len(found.trainings)
    several = len(found.records) + single > 1
    return found.walked or len(found.records) > MOST_COMPARED or (bool(single) and several)


def _results(
    records: Sequence[Record], convention: Convention, folder: Path | None, format: Format
) -> None:
    if folder is not None:
        write_reports(folder, records, convention)
    show_results(format, records, convention)


def _profile(found: Profile, folder: Path | None, format: Format, depth: int) -> None:
    from gptbench import waterfall
    from gptbench.cli import profile

    derived = waterfall.derive(found)
    if folder is not None:
        profile.write(folder, found, derived)
    profile.tell(format, found, derived, depth)


def _training(found: TrainRecord, folder: Path | None, format: Format) -> None:
    from gptbench.cli import train

    if folder is not None:
        train.write(folder, found)
    train.tell(format, found)


def _index(found: Archive, convention: Convention, folder: Path | None, format: Format) -> None:
    from gptbench import history
    from gptbench.report import frame, trends

    derived = history.derive(found, convention)
    tidy: Any = None
    if derived.series and (folder is not None or format is Format.csv):
        tidy = frame.csv_text(
            frame.of_rows(list(trends.tidy(derived)), before=tuple(trends.COLUMNS))
        )
    if folder is not None:
        _write_index(folder, derived, convention, tidy)
    if format is Format.csv:
        if tidy is None:
            raise QuestionError("--format csv takes results, and there are none.")
        sys.stdout.write(tidy)
    else:
        most = trends.NEWEST if format is Format.table else trends.MOST_ROWS
        tables = _tables(derived, convention, most)
        show(format, tables, lambda: trends.document(derived, convention))
    sys.stdout.flush()
    for one in derived.lost[:MOST_TOLD]:
        print(f"Note: {one.name} has no result: {one.reason}", file=sys.stderr)
    if len(derived.lost) > MOST_TOLD:
        left = len(derived.lost) - MOST_TOLD
        print(f"Note: {left:,} more files have no result.", file=sys.stderr)


def _tables(derived: Any, convention: Convention, most: int) -> list[Any]:
    """What stdout gets, the details last."""
    from gptbench.report import entries, trends

    tables = []
    if derived.series:
        tables.append(trends.benchmarks(derived, convention))
    if any(series.changes for series in derived.series):
        tables.append(trends.changes(derived))
    if derived.profiles:
        tables.append(entries.profiled(derived.profiles))
    if derived.trainings:
        tables.append(entries.trained(derived.trainings))
    if derived.lost:
        tables.append(trends.lost(derived.lost))
    if derived.series:
        tables.append(trends.newest(derived, convention, most))
    return tables


def _write_index(
    folder: Path,
    derived: Any,
    convention: Convention,
    tidy: str | None,
) -> None:
    """report.html and of results result.csv, each whole or not at all."""
    from gptbench.report.pages import index

    for name in ("result.json", "sweep.json"):
        if (folder / name).exists():
            raise QuestionError(
                f"'{folder}' has a {name}, whose own report.html the index would replace. Type "
                "--out with another folder."
            )
    files = {"report.html": index.page(derived, convention, folder)}
    if tidy is not None:
        files["result.csv"] = tidy
    outputs.write_all(folder, files)
    print(f"Wrote {' and '.join(files)} in {folder}.", file=sys.stderr)
