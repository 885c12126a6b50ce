"""What `gptbench schema --columns` says of each CSV file, held to what the commands write."""

import ast
from pathlib import Path

import pytest
from scalings import answered
from test_index import HISTORY
from trainings import learned

import calibrations as calibrated
import comparisons as compared
import gptbench
import profiles as profiled
import records
from gptbench import question, waterfall
from gptbench.grid import Point
from gptbench.report import (
    calibrations,
    columns,
    comparisons,
    delimited,
    frame,
    learning,
    profiles,
    scalings,
    sweeps,
    trends,
)
from gptbench.sweep import Outcome

CLI = Path(gptbench.__file__).parent / "cli"


@pytest.fixture(scope="module")
def scaling_tables():
    """A budget, a fit and its runs, as scaling.csv has them."""
    found = scalings.tables(answered())
    return dict(zip(("a budget", "a fit", "the runs of a fit"), found, strict=True))


def of_a_sweep():
    asked = question.Question(command="gptbench throughput")
    point = Point(key="0123456789abcdef", name="", written={"batch_size": 1}, question=asked)
    return frame.csv_text(sweeps.tidy([Outcome(point=point, record=records.ON_GPU)]))


def of_an_index():
    return frame.csv_text(frame.of_rows(list(trends.tidy(HISTORY)), before=tuple(trends.COLUMNS)))


def of_a_profile():
    found = profiled.whole()
    return delimited.table_csv(profiles.tidy(found, waterfall.derive(found)))


WRITTEN = {
    "result.csv": lambda: frame.csv_text(frame.measurements([records.ON_GPU])),
    "result.csv of many results": of_an_index,
    "sweep.csv": of_a_sweep,
    "profile.csv": of_a_profile,
    "comparison": lambda: delimited.table_csv(comparisons.values(compared.in_turns())),
    "calibration.csv": lambda: delimited.table_csv(calibrations.tidy(calibrated.found())),
    "train.csv": lambda: delimited.table_csv(learning.tidy(learned(records.ON_CPU))),
}


def header(text):
    return text.splitlines()[0].split(",")


@pytest.mark.parametrize("name", WRITTEN)
def test_the_columns_of_a_file_are_those_that_are_written(name):
    _, documented = columns.FILES[name]
    assert header(WRITTEN[name]()) == list(documented)


@pytest.mark.parametrize("part", ["a budget", "a fit", "the runs of a fit"])
def test_the_columns_of_scaling_are_those_of_its_tables(scaling_tables, part):
    _, documented = columns.FILES[f"scaling.csv of {part}"]
    assert header(delimited.table_csv(scaling_tables[part])) == list(documented)


def test_every_csv_that_a_command_writes_has_its_columns_said():
    """The names are those in the commands' own code, where the files are written."""
    written = {
        node.value
        for path in CLI.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.endswith(".csv") and " " not in node.value
    }
    said = {name.partition(" ")[0] for name in columns.FILES}
    assert written >= {"result.csv", "train.csv", "scaling.csv"}
    assert written == said - {"comparison"}


@pytest.mark.parametrize("name", columns.FILES)
def test_every_column_has_a_meaning(name):
    assert all(columns.FILES[name][1].values())


def test_of_an_index_single_steps_are_left_out():
    rows = frame.of_rows(list(trends.tidy(HISTORY)), before=tuple(trends.COLUMNS))
    assert set(rows["benchmark"]) == {1, 2, 3}
    assert set(rows["stat"]).isdisjoint({"sample"})
