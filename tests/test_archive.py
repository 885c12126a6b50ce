"""What is found in files and under folders, and what is said of what is not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import histories
import records
from gptbench import archive, device, profiling, shelf, stored
from gptbench.errors import QuestionError
from gptbench.profiling import Profile
from gptbench.record import Record

ROOT = Path(__file__).parent.parent
PROFILE_1 = ROOT / "tests/data/profile-version-1.json"


def names(filed):
    return [one.name for one in filed]


def test_results_are_found_at_any_depth_and_under_any_name(tmp_path):
    histories.nights(tmp_path / "deep/er", [1.0])
    histories.stored(tmp_path / "monday.json", histories.night(1))
    found = archive.gathered([tmp_path])
    assert sorted(names(found.records)) == ["deep/er/000/result.json", "monday.json"]
    assert found.walked


def test_a_profile_is_known_by_what_it_holds(tmp_path):
    (tmp_path / "result.json").write_bytes(PROFILE_1.read_bytes())
    assert isinstance(archive.read(tmp_path / "result.json", ()), Profile)
    assert names(archive.gathered([tmp_path]).profiles) == ["result.json"]


def test_a_result_is_judged_by_todays_peak_whether_its_file_is_named_or_found(tmp_path):
    """NVIDIA's datasheet has 312 TFLOP/s of dense bfloat16 for the A100; the half was stored."""
    wrong = replace(records.GPU, peak_flops_per_s=156e12)
    file = histories.stored(tmp_path / "result.json", histories.night(1, device=wrong))
    rows = device.table()
    (found,) = archive.under(tmp_path, rows)
    judged = [found.value, archive.read(file, rows)]
    assert [one.device.peak_flops_per_s for one in judged] == [312e12, 312e12]


def test_a_folder_of_one_result_is_that_result(tmp_path):
    histories.nights(tmp_path, [1.0])
    histories.other_json(tmp_path)
    found = archive.gathered([tmp_path])
    assert (len(found.records), found.lost, found.walked) == (1, (), False)


@pytest.mark.parametrize("name", ["result.json", "profile.json", "torn.json"])
def test_a_file_that_is_torn_is_told_with_the_reason(tmp_path, name):
    whole = histories.nights(tmp_path, [1.0]) / "000" / "result.json"
    (tmp_path / name).write_text(whole.read_text("utf-8")[:1000], "utf-8")
    found = archive.gathered([tmp_path])
    assert names(found.records) == ["000/result.json"]
    (lost,) = found.lost
    assert (lost.name, lost.kind) == (name, "unreadable")
    assert lost.reason.startswith(f"'{name}' is not JSON")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"a": 1}, "it has no schema_version"),
        ({"schema_version": 2}, "holds no result, no profile and no training"),
        ({"schema_version": 99, "measurement": {}}, "has schema_version 99"),
        ({"schema_version": 99, "profiled": {}}, "this gptbench reads 1 and older"),
    ],
)
def test_what_is_no_result_in_spite_of_its_name_is_told(tmp_path, document, said):
    histories.nights(tmp_path, [1.0])
    (tmp_path / "result.json").write_text(json.dumps(document))
    (lost,) = archive.gathered([tmp_path]).lost
    assert said in lost.reason


def test_what_is_hidden_is_left_alone(tmp_path):
    histories.nights(tmp_path / ".venv", [1.0])
    histories.nights(tmp_path, [1.0])
    (tmp_path / ".result.json").write_text("{")
    assert names(archive.gathered([tmp_path]).records) == ["000/result.json"]


def test_a_sweeps_failures_are_told_but_for_those_that_succeeded_since(tmp_path):
    failed = shelf.Failure(
        kind="out of memory",
        reason="batch 64 needs more",
        command="gptbench throughput",
        failed_at="2026-01-02T03:04:05+00:00",
        gptbench_version="0.1.0",
    )
    for folder in (shelf.POINTS, shelf.FAILURES):
        (tmp_path / folder).mkdir()
    for key in ("one", "two"):
        shelf.keep_failure(tmp_path, key, failed)
    histories.stored(tmp_path / shelf.result_file("two"), histories.night(1))
    histories.other_json(tmp_path)
    found = archive.gathered([tmp_path])
    assert names(found.records) == ["points/two/result.json"]
    assert [(one.name, one.kind, one.reason) for one in found.lost] == [
        ("failures/one.json", "out of memory", "batch 64 needs more")
    ]


def test_a_file_that_is_named_and_does_not_read_ends_it(tmp_path):
    histories.nights(tmp_path, [1.0, 1.0])
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(QuestionError, match="is not JSON"):
        archive.gathered([tmp_path, tmp_path / "bad.json"])


def test_a_folder_without_a_result_ends_it(tmp_path):
    histories.other_json(tmp_path)
    with pytest.raises(QuestionError, match=r"no result under .* Type a result.json"):
        archive.gathered([tmp_path])
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(QuestionError, match=r"1 files have none\. The first, result\.json"):
        archive.gathered([tmp_path])


def test_a_result_that_is_named_twice_is_one(tmp_path):
    histories.nights(tmp_path, [1.0, 1.0])
    found = archive.gathered([tmp_path, tmp_path / "000/result.json"])
    assert len(found.records) == 2


def test_results_are_judged_by_the_peak_that_the_table_has_today(tmp_path):
    old = replace(records.GPU, peak_flops_per_s=1e12, peak_source="as it was believed once")
    histories.stored(tmp_path / "result.json", histories.night(1, device=old))
    (one,) = archive.gathered([tmp_path / "result.json"]).records
    assert one.value.device.peak_flops_per_s == 312e12
    assert isinstance(one.value, Record)


def test_the_stored_profile_of_version_1_reads():
    assert '"schema_version": 1,' in PROFILE_1.read_text("utf-8")
    found = profiling.of(stored.document(PROFILE_1), PROFILE_1, Profile)
    assert found.schema_version == profiling.PROFILE_SCHEMA_VERSION
    assert found.model.name == "minigpt"
    assert sum(work.ns[0] for work in found.profiled.work) == found.profiled.profiled_ns[0]
