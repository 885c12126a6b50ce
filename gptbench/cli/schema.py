"""gptbench schema."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gptbench import archive, documents, profile_schema, schema, stored, trainrecord
from gptbench.cli.answer import show
from gptbench.cli.options import Format, FormatOption
from gptbench.errors import QuestionError
from gptbench.profiling import Profile
from gptbench.trainrecord import TrainRecord


class Document(StrEnum):
    """What has a schema."""

    result = "result"
    profile = "profile"


SCHEMAS = {Document.result: schema.schema, Document.profile: profile_schema.published}


def command(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Results and profiles to check."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Hold each FILE to its schema.")] = False,
    of: Annotated[
        Document, typer.Option("--of", help="Show the schema of this document.")
    ] = Document.result,
    columns: Annotated[
        bool,
        typer.Option("--columns", help="Explain the columns of the CSV files that --out writes."),
    ] = False,
    format: FormatOption = Format.table,
) -> None:
    """Show the JSON Schema of result.json or profile.json, or check that files keep to them.

    Example: gptbench schema --check results/result.json
    """
    if check != bool(files):
        missing = "a FILE" if check else "--check"
        raise QuestionError(f"files are checked by 'gptbench schema --check FILE': type {missing}.")
    if columns and check:
        raise QuestionError("--columns is about CSV, and --check about JSON. Type one of them.")
    if format is not Format.table and not columns:
        raise QuestionError("--format is for --columns: a schema is JSON.")
    if columns:
        _show_columns(format)
    elif files:
        _check(files)
    else:
        sys.stdout.write(documents.dump_json(SCHEMAS[of]()))


def _show_columns(format: Format) -> None:
    from gptbench.report.columns import FILES, tables

    show(format, tables(), lambda: {name: meanings for name, (_, meanings) in FILES.items()})


def _check(files: list[Path]) -> None:
    """Say what each file is, or of all that keep to no schema why."""
    wrong = []
    for file in files:
        try:
            said = _checked(file)
        except QuestionError as error:
            wrong.append(str(error))
        else:
            print(f"{file}: {said}.")
    if wrong:
        raise QuestionError("\nError: ".join(wrong))


def _checked(file: Path) -> str:
    """What a file holds; of a folder its result.json."""
    path = file / archive.RESULT if file.is_dir() else file
    document = stored.document(path)
    kind = archive.kind_of(document)
    if kind is TrainRecord:
        return f"a training of gptbench {trainrecord.of(document, path).gptbench_version}"
    if kind is Profile:
        return f"a profile of gptbench {profile_schema.check(document, path).gptbench_version}"
    return f"a result of gptbench {schema.check(document, path).gptbench_version}"
