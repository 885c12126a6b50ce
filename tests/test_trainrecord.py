"""What a record of a training says, and how it is shown."""

import json
import re
from dataclasses import replace

import pytest

from gptbench import documents, flops, trainrecord
from gptbench.errors import QuestionError, UnknownSchemaError
from gptbench.report import delimited, learning, lossplot
from gptbench.report.pages import training


@pytest.fixture
def rec(training_record):
    return training_record


def test_rates_are_of_all_steps_but_the_first(rec):
    found = trainrecord.derive(rec)
    assert found.step_time_s == pytest.approx(0.01)
    assert found.tokens_per_s == pytest.approx(6400)


def test_mfu_is_the_rate_times_the_flops_of_a_token_over_the_peak(rec):
    cost = flops.step_flops(rec.model, rec.workload).per_token
    assert trainrecord.derive(rec).mfu == pytest.approx(6400 * cost / 1e9)


def test_without_a_peak_there_is_no_mfu(rec):
    unknown = replace(rec, device=replace(rec.device, peak_flops_per_s=None))
    assert trainrecord.derive(unknown).mfu is None


def test_fewer_steps_than_the_first_ones_give_no_rate(rec):
    short = replace(rec, trained=replace(rec.trained, steps=3, train_ns=500_000_000))
    assert trainrecord.derive(short).tokens_per_s is None


def test_the_text_was_read_twice(rec):
    assert trainrecord.derive(rec).epochs == pytest.approx(103 * 64 / 3296)


def test_the_loaders_share_is_of_the_steps_time(rec):
    assert trainrecord.derive(rec).loader_share == pytest.approx(0.01)


def test_the_time_to_a_loss_is_that_of_the_first_look_below_it(rec):
    assert trainrecord.derive(rec).to_target == rec.trained.evaluations[1]
    assert trainrecord.time_to(rec, 1.0) is None


def test_best_and_last_are_not_the_same(rec):
    found = trainrecord.derive(rec)
    assert (found.best.validation_loss, found.last.validation_loss) == (1.9, 2.1)


def test_a_record_reads_as_it_was_written(rec, tmp_path):
    (tmp_path / "train.json").write_text(documents.dump_json(trainrecord.document(rec)))
    assert trainrecord.read(tmp_path) == rec


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        ("{", QuestionError, "JSON"),
        ("{}", QuestionError, "no schema_version"),
        ('{"schema_version": 1}', QuestionError, "no record of a training"),
        ('{"trained": {}, "schema_version": 9}', UnknownSchemaError, "schema_version 9"),
        ('{"trained": {}, "schema_version": 1}', QuestionError, "missing required field"),
    ],
)
def test_a_file_that_is_no_record_is_refused(content, error, said, tmp_path):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(error, match=said):
        trainrecord.read(tmp_path)


def cell(table, name):
    return next(row for row in table.rows if row[0] == name)


def test_the_table_says_time_to_loss_and_what_it_is_of(rec):
    name, value, of = cell(learning.result(rec), "time to 2")
    assert (name, str(value)) == ("time to 2", "500 ms")
    assert of == "at step 50; 1.0 s with looks and checkpoints"


def test_a_loss_that_was_not_reached_is_a_dash(rec):
    assert cell(learning.result(replace(rec, target_loss=1.0)), "time to 1")[1] == "—"


def test_arithmetic_is_told_before_and_after(rec):
    solved = replace(rec, trained=replace(rec.trained, solved_before=0.0, solved_after=0.25))
    _, value, of = cell(learning.result(solved), "exact match")
    assert str(value) == "25.0%"
    assert "0.0% before" in of


def test_the_csv_has_a_row_a_point_with_its_step(rec):
    lines = delimited.table_csv(learning.tidy(rec)).splitlines()
    assert lines[0] == "text,step,loss (nats/token),training_time (s),wall_time (s)"
    assert lines[3] == "training,103,1.8,,"
    assert lines[5] == "validation,50,1.9,0.5,1.0"


def test_the_page_has_the_answer_the_curve_and_the_data(rec):
    page = training.page(rec)
    assert "to a validation loss of 2.1000 in 1.5 s at 6.400 k" in page
    assert page.count('role="img"') == 1
    assert re.search(r"time to loss.*500 ms", page, re.DOTALL)


def test_the_same_record_gives_the_same_page(rec):
    assert training.page(rec) == training.page(rec)


def test_the_curve_says_what_it_shows(rec):
    said = "went from 3.5000 to 2.1000 in 103 steps; the best was 1.9000 at step 50"
    assert said in lossplot.curve(rec)


def test_a_record_says_all_of_it_as_json(rec):
    result = json.loads(documents.dump_json(trainrecord.document(rec)))["result"]
    assert result["to_target"]["step"] == 50
    assert result["tokens_per_s"] == pytest.approx(6400)
