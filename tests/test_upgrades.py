"""Records of older versions, read as this one would have written them."""

from pathlib import Path

import pytest

from gptbench import metrics, record, upgrades
from gptbench.errors import QuestionError

ROOT = Path(__file__).parent.parent
VERSION_1 = ROOT / "tests/data/result-version-1.json"
PUBLISHED = sorted((ROOT / "reports").glob("**/result.json"))


def test_every_older_version_has_its_step():
    assert sorted(upgrades.UPGRADES) == list(range(1, upgrades.SCHEMA_VERSION))


def test_a_record_of_this_version_stays_as_it_is():
    document = {"schema_version": upgrades.SCHEMA_VERSION, "environment": {"load_average": 1.0}}
    assert upgrades.upgraded(document) is document


def test_the_load_of_version_1_was_that_of_after_the_run():
    old = {"schema_version": 1, "environment": {"python": "3.11.7", "load_average": 2.5}}
    assert upgrades.upgraded(old) == {
        "schema_version": 2,
        "environment": {"python": "3.11.7", "load_average_after": 2.5},
    }


def test_what_is_upgraded_is_left_as_it_was():
    old = {"schema_version": 1, "environment": {"load_average": 2.5}}
    upgrades.upgraded(old)
    assert old == {"schema_version": 1, "environment": {"load_average": 2.5}}


@pytest.mark.parametrize("environment", [None, [], "none", {}])
def test_an_environment_of_another_kind_is_left_to_those_who_read_it(environment):
    found = upgrades.upgraded({"schema_version": 1, "environment": environment})
    assert found["environment"] == environment


@pytest.mark.parametrize("version", [3, 0, -1, "1", 1.5, True, [1]])
def test_a_version_that_is_not_known_is_refused(version):
    with pytest.raises(QuestionError, match="Update gptbench"):
        upgrades.upgraded({"schema_version": version})


@pytest.mark.parametrize("path", [VERSION_1, *PUBLISHED], ids=lambda p: str(p.relative_to(ROOT)))
def test_old_and_published_records_read_and_mean_the_same(path):
    rec = record.read(path)
    assert rec.schema_version == upgrades.SCHEMA_VERSION
    result = metrics.derive(rec)
    assert result.window_tokens_per_s > 0
    assert result.energy is None


def test_the_old_record_is_as_version_1_wrote_it():
    assert '"schema_version": 1,' in VERSION_1.read_text("utf-8")
