"""Results of a benchmark in the order of time."""

from dataclasses import replace
from pathlib import Path

import pytest

import histories
import records
from gptbench import history
from gptbench.archive import Archive, Filed
from gptbench.conventions import EXACT, named


def archived(*found):
    """An archive of records, named by their number."""
    filed = (
        Filed(name=f"{i}.json", path=Path(f"{i}.json"), value=rec) for i, rec in enumerate(found)
    )
    return Archive(records=tuple(filed), profiles=(), trainings=(), lost=(), walked=True)


def derived(*found):
    return history.derive(archived(*found), EXACT)


def test_results_are_in_the_order_of_their_start():
    found = derived(*(histories.night(n) for n in (2, 0, 1)))
    (series,) = found.series
    assert [point.filed.name for point in series.points] == ["1.json", "2.json", "0.json"]
    assert [point.filed.name for point in found.points] == ["0.json", "2.json", "1.json"]


def test_times_of_other_zones_are_the_same_time():
    early = replace(histories.night(0), started_at="2026-01-01T04:00:00+03:00")
    late = replace(histories.night(0), started_at="2026-01-01T02:00:00")
    (series,) = derived(late, early).series
    assert [point.filed.name for point in series.points] == ["1.json", "0.json"]


@pytest.mark.parametrize(
    ("other", "benchmarks"),
    [
        ({"environment": {**records.ON_CPU.environment, "threads": 4}}, 2),
        ({"workload": replace(records.ON_CPU.workload, batch_size=2)}, 2),
        ({"device": replace(records.CPU, name="Other CPU")}, 2),
        ({"model": replace(records.GPT2_SMALL, n_layers=13)}, 2),
        ({"model": replace(records.GPT2_SMALL, name="mine")}, 1),
        ({"environment": {**records.ON_CPU.environment, "torch": "2.12.0"}}, 1),
        ({"gptbench_version": "0.2.0"}, 1),
    ],
)
def test_a_benchmark_is_a_model_a_workload_and_a_device_with_its_threads(other, benchmarks):
    found = derived(histories.night(0, rec=records.ON_CPU), replace(records.ON_CPU, **other))
    assert len(found.series) == benchmarks


def test_a_change_of_level_has_what_changed_there():
    def torch(number):
        return {**records.ON_GPU.environment, "torch": "2.13.0" if number >= 12 else "2.12.0"}

    (series,) = derived(
        *(histories.night(i, f, environment=torch(i)) for i, f in enumerate(histories.SLOWER))
    ).series
    (change,) = series.changes
    assert change.at == 12
    # 10% longer steps, by a scatter of half a percent: 1/1.1 - 1 = -9.1%.
    assert change.ratio == pytest.approx(1 / 1.1, abs=0.005)
    assert change.differences == ("torch 2.12 → 2.13",)


def test_commits_and_versions_are_told_in_short():
    def facts(number):
        commit = ("a" if number < 12 else "b") * 40
        version = "0.1.0" if number < 12 else "0.2.0"
        environment = {**records.ON_GPU.environment, "folder_commit": commit}
        return {"environment": environment, "gptbench_version": version}

    (series,) = derived(
        *(histories.night(i, f, **facts(i)) for i, f in enumerate(histories.SLOWER))
    ).series
    assert series.changes[0].differences == (
        "gptbench 0.1.0 → 0.2.0",
        f"folder_commit {'a' * 12} → {'b' * 12}",
    )


def test_a_result_without_a_time_is_lost_and_no_other():
    found = derived(histories.night(0), replace(histories.night(1), started_at="yesterday"))
    assert len(found.points) == 1
    assert "started_at 'yesterday' is no time" in found.lost[0].reason


def test_the_convention_is_that_which_was_asked_for():
    exact = history.derive(archived(histories.night(0)), EXACT).points[0].metrics.mfu
    palm = history.derive(archived(histories.night(0)), named("palm")).points[0].metrics.mfu
    assert exact != palm
