"""`gptbench report` and `gptbench schema` as a person types them, on files, folders and profiles."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import trainings

import histories
import profiles as made
import records
from gptbench import module_times, waterfall
from gptbench.cli import main as cli
from gptbench.cli import report
from gptbench.cli.profile import write as write_profile
from gptbench.cli.train import write as write_training
from gptbench.documents import dump_json
from gptbench.report import columns

PROFILE_1 = Path(__file__).parent / "data/profile-version-1.json"


def answer(capsys, *words):
    """Exit code, stdout and stderr of a command run in this process."""
    status = cli.main(list(map(str, words)))
    said = capsys.readouterr()
    return status, said.out, said.err


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """20 nights of a benchmark, 10% slower from the 13th on, and a torn file."""
    folder = histories.nights(tmp_path_factory.mktemp("kept"), histories.SLOWER)
    (folder / "torn").mkdir()
    (folder / "torn/result.json").write_text("{", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A folder with what `gptbench profile --out` wrote."""
    folder = tmp_path_factory.mktemp("profiled")
    found = made.whole()
    write_profile(folder, found, waterfall.derive(found))
    return folder


def test_a_folder_of_results_makes_an_index(capsys, kept, tmp_path):
    status, out, said = answer(capsys, "report", kept, "--out", tmp_path)
    assert status == 0
    assert "1 change of level" in out
    assert "-9.1%" in out
    assert "Note: torn/result.json has no result" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "result.csv"]
    found = pd.read_csv(tmp_path / "result.csv")
    assert found["file"].nunique() == 20
    assert set(found["level"]) == {1, 2}


def test_the_same_folder_gives_the_same_bytes(capsys, kept, tmp_path):
    for name in ("one", "two"):
        answer(capsys, "report", kept, "--out", tmp_path / name)
    for name in ("report.html", "result.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_index_is_json_csv_and_markdown_too(capsys, kept):
    _, out, _ = answer(capsys, "report", kept, "--format", "json")
    assert len(json.loads(out)["benchmarks"][0]["results"]) == 20
    _, out, _ = answer(capsys, "report", kept, "--format", "csv")
    assert list(pd.read_csv(io.StringIO(out)).columns) == list(
        columns.FILES["result.csv of many results"][1]
    )
    _, out, _ = answer(capsys, "report", kept, "--format", "markdown")
    assert out.startswith("### 1 benchmark on NVIDIA A100")


def test_a_folder_of_one_result_makes_its_page(capsys, kept, tmp_path):
    one = histories.nights(tmp_path / "one", [1.0])
    status, _, said = answer(capsys, "report", one, "--out", tmp_path / "out")
    assert status == 0
    assert "Wrote result.json, result.csv and report.html" in said


def test_so_many_files_are_an_index(capsys, kept, monkeypatch):
    files = sorted(kept.glob("0*/result.json"))
    _, out, _ = answer(capsys, "report", *files[:2])
    assert "20 results" not in out
    monkeypatch.setattr(report, "MOST_COMPARED", 19)
    _, out, _ = answer(capsys, "report", *files)
    assert "1 benchmark on" in out


def test_an_index_replaces_no_page_of_a_result(capsys, kept, tmp_path):
    histories.stored(tmp_path / "result.json", records.ON_GPU)
    status, _, said = answer(capsys, "report", kept, "--out", tmp_path)
    assert status == 2
    assert "has a result.json, whose own report.html the index would replace" in said
    assert not (tmp_path / "report.html").exists()


def test_of_many_unreadable_files_the_first_are_told(capsys, tmp_path):
    histories.nights(tmp_path, [1.0])
    for number in range(9):
        histories.stored(tmp_path / f"bad/{number}/result.json", records.ON_GPU).write_text("{")
    status, out, said = answer(capsys, "report", tmp_path)
    assert status == 0
    assert "9 files without a result" in out
    assert said.count("has no result") == report.MOST_TOLD
    assert "4 more files have no result" in said


@pytest.mark.parametrize("name", ["nowhere.json", "empty"])
def test_what_was_asked_for_and_is_not_there_is_exit_code_2(capsys, tmp_path, name):
    (tmp_path / "empty").mkdir()
    status, out, said = answer(capsys, "report", tmp_path / name)
    assert (status, out) == (2, "")
    assert said.startswith("Error: ")


# -- profiles -------------------------------------------------------------------------------------


def test_a_profile_is_rendered_again_byte_for_byte(capsys, profiled, tmp_path):
    status, out, _ = answer(capsys, "report", profiled / "profile.json", "--out", tmp_path)
    assert status == 0
    assert "Where the time of a step goes, gpt2-small" in out
    for name in ("profile.json", "profile.csv", "profile.html"):
        assert (tmp_path / name).read_bytes() == (profiled / name).read_bytes()


def test_a_profile_is_json_and_its_tree_as_deep_as_asked_for(capsys, profiled):
    found = made.whole()
    document = module_times.document(found, waterfall.derive(found))
    _, out, _ = answer(capsys, "report", profiled, "--format", "json")
    assert out == dump_json(document)
    _, shallow, _ = answer(capsys, "report", PROFILE_1, "--depth", "0")
    _, deep, _ = answer(capsys, "report", PROFILE_1, "--depth", "3")
    assert "MLP" not in shallow
    assert "MLP" in deep


def test_a_profile_among_results_is_a_row_of_the_index(capsys, profiled, kept):
    _, out, _ = answer(capsys, "report", kept / "000", profiled)
    assert "1 profile" in out
    assert "1 benchmark" in out


@pytest.mark.parametrize("words", [["--export", "github=x.json"], ["--format", "csv"]], ids=str)
def test_profiles_alone_have_no_results_to_give(capsys, profiled, words, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/profile.json").write_bytes((profiled / "profile.json").read_bytes())
    status, out, said = answer(capsys, "report", profiled, tmp_path, *words)
    assert (status, out) == (2, "")
    assert "takes results, and there are none" in said


# -- trainings ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with what `gptbench train --out` wrote, but for the model."""
    folder = tmp_path_factory.mktemp("trained")
    write_training(folder, trainings.learned(records.ON_CPU))
    return folder


def test_a_training_is_rendered_again_byte_for_byte(capsys, trained, tmp_path):
    status, out, _ = answer(capsys, "report", trained / "train.json", "--out", tmp_path)
    assert status == 0
    assert "validation loss" in out
    for name in ("train.json", "train.csv", "train.html", "loss.svg"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_a_training_among_results_is_a_row_of_the_index(capsys, trained, kept):
    _, out, _ = answer(capsys, "report", kept / "000", trained)
    assert "1 training" in out
    assert "1 benchmark" in out


def test_a_training_is_known_as_one(capsys, trained):
    path = trained / "train.json"
    status, out, _ = answer(capsys, "schema", "--check", path)
    assert (status, out) == (0, f"{path}: a training of gptbench 0.1.0.\n")


def test_a_training_is_not_compared(capsys, trained):
    status, _, said = answer(capsys, "compare", trained / "train.json", trained / "train.json")
    assert status == 2
    assert "is a training" in said


# -- schema ---------------------------------------------------------------------------------------


def test_the_schema_of_a_profile_is_published(capsys):
    status, out, _ = answer(capsys, "schema", "--of", "profile")
    assert status == 0
    found = json.loads(out)
    assert found["title"] == "A profile of gptbench"
    assert found["$defs"]["PublishedProfile"]["properties"]["schema_version"]["const"] == 1


@pytest.mark.parametrize("name", ["written", "stored"])
def test_a_profile_keeps_to_its_schema(capsys, profiled, name):
    path = profiled / "profile.json" if name == "written" else PROFILE_1
    status, out, said = answer(capsys, "schema", "--check", path)
    assert (status, out, said) == (0, f"{path}: a profile of gptbench 0.1.0.\n", "")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d["result"].pop("waterfall"), "missing required field `waterfall`"),
        (lambda d: d["result"]["modules"][0].update(calls="one"), "`$.result.modules[0].calls`"),
        (lambda d: d["profiled"].update(step_ns=[]), "a profile has a step"),
    ],
)
def test_a_profile_that_does_not_keep_to_it_is_refused_with_the_key(capsys, tmp_path, spoil, said):
    document = json.loads(PROFILE_1.read_text("utf-8"))
    spoil(document)
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(document))
    status, out, error = answer(capsys, "schema", "--check", path)
    assert (status, out) == (2, "")
    assert said in error


def test_the_columns_of_every_csv_are_said(capsys):
    status, out, _ = answer(capsys, "schema", "--columns")
    assert status == 0
    assert all(name in out for name in columns.FILES)
    _, out, _ = answer(capsys, "schema", "--columns", "--format", "json")
    assert json.loads(out)["profile.csv"]["class"].startswith("what the operator is")


@pytest.mark.parametrize(
    "words", [["--columns", "--check", "x.json"], ["--format", "csv"]], ids=str
)
def test_options_of_the_schema_that_do_not_go_together_are_refused(capsys, words):
    status, out, said = answer(capsys, "schema", *words)
    assert (status, out) == (2, "")
    assert "--columns" in said
