"""What a command answers: on stdout in the form asked for, in files whole or not at all.

What is heavy is imported where it is asked for: a table of FLOPs needs no pandas.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptbench.cli.options import Format


def progress_bar() -> Any:
    """A bar on stderr that takes (what is being done, seconds expected)."""
    from gptbench.report import progress, text

    return progress.bar(text.console(stderr=True))


def live_line() -> Any:
    """A line on stderr that takes (what is being done, seconds left) and stays where it is."""
    from gptbench.report import progress, text

    return progress.live(text.console(stderr=True))


def overall_bar(total: int) -> Any:
    """A bar on stderr over `total` points; see `report.progress.overall`."""
    from gptbench.report import progress, text

    return progress.overall(text.console(stderr=True), total)


def show(
    format: Format,
    tables: Sequence[Any],
    document: Callable[[], Any],
    notes: Sequence[str] = (),
) -> None:
    """Give stdout the answer in the form that was asked for, and stderr what is to be known of it.

    Markdown is for others to read, and has the notes too.
    """
    if format is Format.json:
        from gptbench import documents

        sys.stdout.write(documents.dump_json(document()))
    elif format is Format.csv:
        from gptbench.report import delimited

        sys.stdout.write("\n".join(delimited.table_csv(t) for t in tables))
    elif format is Format.markdown:
        from gptbench.report import markdown

        sys.stdout.write(markdown.document(tables, notes))
    else:
        from gptbench.report import text

        console = text.console()
        for t in tables:
            text.show(t, console)
    sys.stdout.flush()
    for note in notes:
        print(note, file=sys.stderr)


def show_results(format: Format, records: Sequence[Any], convention: Any) -> None:
    """Give stdout the results of records, and stderr what is to be known of them."""
    from gptbench import metrics
    from gptbench.report import caveats, frame, results

    derived = [metrics.derive(rec, convention) for rec in records]
    if format is Format.csv:
        sys.stdout.write(frame.csv_text(frame.measurements(records, convention=convention)))
        return
    tables = []
    for rec, result in zip(records, derived, strict=True):
        tables.append(results.result(rec, result))
        if rec.batch_search is not None:
            tables.append(results.probes(rec.batch_search))
            if rec.batch_search.curve:
                tables.append(results.speeds(rec.batch_search, rec))
    documents = [metrics.document(r, m) for r, m in zip(records, derived, strict=True)]
    notes = _named([[caveats.sentence(c) for c in result.caveats] for result in derived])
    whole = documents[0] if len(documents) == 1 else {"results": documents}
    show(format, tables, lambda: whole, notes)


def _named(notes: Sequence[Sequence[str]]) -> list[str]:
    """Each note once, with the results that it is on."""
    named = []
    for said in dict.fromkeys(note for of_one in notes for note in of_one):
        whose = [str(place) for place, of_one in enumerate(notes, 1) if said in of_one]
        results = f" on result {', '.join(whose)} of {len(notes)}" if len(notes) > 1 else ""
        named.append(f"Note{results}: {said}")
    return named


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Files by their names, each whole or not at all, and on stderr that they are there."""
    from gptbench import outputs

    outputs.write_all(folder, files)
    print(f"Wrote {', '.join(files)} in {folder}.", file=sys.stderr)


def write_reports(folder: Path, records: Sequence[Any], convention: Any) -> None:
    """result.json (of a single record), result.csv and report.html, each whole or not at all."""
    from gptbench import documents, metrics, outputs
    from gptbench.report import frame
    from gptbench.report.pages import result

    if len(records) == 1:
        document = metrics.document(records[0], metrics.derive(records[0], convention))
        outputs.write_whole(folder / "result.json", documents.dump_json(document))
    measured = frame.measurements(records, convention=convention)
    outputs.write_whole(folder / "result.csv", frame.csv_text(measured))
    outputs.write_whole(folder / "report.html", result.page(records, convention))
    written = "result.csv and report.html"
    if len(records) == 1:
        written = f"result.json, {written}"
    print(f"Wrote {written} in {folder}.", file=sys.stderr)
