"""The file that outlives the run: what is written is read, and nothing is ever half written."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptbench import record
from gptbench.errors import QuestionError, UnavailableError
from gptbench.record import BatchSearch, CurvePoint, Ending, Measurement, Probe, Round
from gptbench.telemetry import Energy, Host, Sample, Telemetry

nanoseconds = st.integers(min_value=1, max_value=2**62)
amounts = st.integers(min_value=0, max_value=2**62)
finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
facts = st.dictionaries(words, st.none() | words | amounts | finite, max_size=4)

measurements = st.builds(
    Measurement,
    step_ns=st.lists(nanoseconds, min_size=1, max_size=30).map(tuple),
    window_ns=nanoseconds,
    warmup_ns=st.lists(nanoseconds, max_size=5).map(tuple),
    peak_memory_bytes=st.none() | amounts,
    first_loss=finite,
    last_loss=finite,
    stop=st.sampled_from(get_args(Ending)),
)
probes = st.builds(
    Probe,
    batch_size=nanoseconds,
    fits=st.booleans(),
    peak_memory_bytes=st.none() | amounts,
    step_ns=st.none() | nanoseconds,
    reason=st.none() | words,
)
points = st.builds(
    CurvePoint,
    batch_size=nanoseconds,
    rounds=st.lists(
        st.builds(Round, steps=nanoseconds, window_ns=nanoseconds), min_size=1, max_size=3
    ).map(tuple),
    peak_memory_bytes=st.none() | amounts,
)
searches = st.builds(
    BatchSearch,
    max_batch_size=nanoseconds,
    limit_bytes=amounts,
    limit_source=words,
    probes=st.lists(probes, max_size=5).map(tuple),
    stopped_by=st.sampled_from(["out of memory", "largest asked for"]),
    multiple=nanoseconds,
    curve=st.lists(points, max_size=3).map(tuple),
)
telemetries = st.builds(
    Telemetry,
    host=st.builds(
        Host,
        wall_ns=nanoseconds,
        own_ns=nanoseconds,
        threads=nanoseconds,
        busy_ns=st.none() | amounts,
    ),
    energy=st.builds(
        Energy, joules=st.none() | finite, over_ns=nanoseconds, source=words, reason=words
    ),
    samples=st.lists(
        st.builds(
            Sample,
            at_ns=nanoseconds,
            clock_hz=st.none() | amounts,
            power_w=st.none() | finite,
            reasons=st.none() | amounts,
        ),
        max_size=3,
    ).map(tuple),
    period_s=st.none() | finite,
    missing=st.dictionaries(words, words, max_size=2),
)


def saved(folder, document):
    path = Path(folder) / "result.json"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path):
    with pytest.raises(QuestionError) as caught:
        record.read(path)
    return str(caught.value)


# -- round trip -------------------------------------------------------------------------------


parts = st.fixed_dictionaries(
    {
        "measurement": measurements,
        "batch_search": st.none() | searches,
        "environment": facts,
        "command": words,
        "telemetry": st.none() | telemetries,
    }
)


@given(parts)
def test_a_record_that_is_written_and_read_is_the_same_record(record_of, changed):
    rec = replace(record_of(), **changed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        record.write_whole(path, record.dump_json(record.to_builtins(rec)))
        assert record.read(path) == rec


def test_a_search_of_before_there_were_multiples_and_curves_reads(record_of, tmp_path):
    search = BatchSearch(max_batch_size=4, limit_bytes=9, limit_source="test", probes=())
    rec = record_of(batch_search=search)
    document = record.to_builtins(rec)
    del document["batch_search"]["multiple"], document["batch_search"]["curve"]
    assert record.read(saved(tmp_path, document)) == rec


def test_keys_that_are_derived_or_unknown_are_read_over(record_of, tmp_path):
    document = {**record.to_builtins(record_of()), "result": {"mfu": 0.5}, "future": []}
    assert record.read(saved(tmp_path, document)) == record_of()


def test_json_of_an_answer_keeps_its_order_and_ends_in_one_newline():
    assert record.dump_json({"b": 1, "a": "×"}) == '{\n  "b": 1,\n  "a": "×"\n}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_of_an_answer_never_holds_what_is_no_number(value):
    """METHOD pitfall 61."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        record.dump_json({"mfu": value})


# -- files that do not read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("hello", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "has no schema_version"),
        ("null", "has no schema_version"),
        ("{}", "has no schema_version"),
        ('{"schema_version": 3}', "has schema_version 3; this gptbench reads 2 and older"),
        ('{"schema_version": 0}', "has schema_version 0"),
        ('{"schema_version": true}', "has schema_version True"),
        ('{"schema_version": "1"}', "has schema_version '1'"),
        ('{"schema_version": 1}', "missing required field"),
        ('{"schema_version": NaN}', "NaN is not a JSON number"),
    ],
)
def test_a_file_that_is_no_record_is_refused_with_its_name(tmp_path, text, said):
    message = refusal(path := saved(tmp_path, text))
    assert message.startswith(f"'{path}'")
    assert said in message


def test_a_file_that_is_not_utf8_is_refused_with_its_name(tmp_path):
    (tmp_path / "result.json").write_bytes(b'{"schema_version": "\xff"}')
    assert "result.json' is not JSON" in refusal(tmp_path / "result.json")


def test_a_record_cut_anywhere_is_refused(record_of, tmp_path):
    text = record.dump_json(record.to_builtins(record_of())).rstrip()
    for end in range(0, len(text), 41):
        assert "is not JSON" in refusal(saved(tmp_path, text[:end]))


def test_a_value_of_the_wrong_type_is_refused_with_its_path(record_of, tmp_path):
    document = record.to_builtins(record_of())
    document["measurement"]["window_ns"] = "long"
    assert "$.measurement.window_ns" in refusal(saved(tmp_path, document))


def test_a_model_that_cannot_be_is_refused_with_the_name_of_the_file(record_of, tmp_path):
    document = record.to_builtins(record_of())
    document["model"]["n_layers"] = 0
    message = refusal(path := saved(tmp_path, document))
    assert message == f"'{path}': model 'tiny': n_layers = 0 must be at least 1."


@pytest.mark.parametrize(("key", "value"), [("step_ns", []), ("step_ns", [5, 0]), ("window_ns", 0)])
def test_steps_that_took_no_time_are_refused(record_of, tmp_path, key, value):
    document = record.to_builtins(record_of())
    document["measurement"][key] = value
    assert "every step takes time - at `$.measurement`" in refusal(saved(tmp_path, document))


def test_a_file_larger_than_any_result_is_refused_unread(tmp_path):
    path = tmp_path / "result.json"
    path.touch()
    os.truncate(path, record.MAX_RECORD_BYTES + 1)
    assert "is over 1 GiB" in refusal(path)


def test_a_file_that_is_not_there_is_refused_with_the_systems_reason(tmp_path):
    assert refusal(tmp_path / "none.json").endswith("none.json': No such file or directory.")


# -- whole or not at all ----------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_in_the_systems_words(tmp_path):
    with pytest.raises(UnavailableError, match=r"result\.json': No space left on device"):
        record.write_whole(tmp_path / "result.json", "new")


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "result.json").write_text("old")
    with pytest.raises(UnavailableError):
        record.write_whole(tmp_path / "result.json", "new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"result.json": "old"}


def test_a_write_replaces_the_whole_file_and_leaves_nothing_else(tmp_path):
    (tmp_path / "result.json").write_text("a much longer old text")
    record.write_whole(tmp_path / "result.json", "× new")
    assert {p.name: p.read_text("utf-8") for p in tmp_path.iterdir()} == {"result.json": "× new"}


def test_bytes_are_written_as_they_are(tmp_path):
    record.write_whole(tmp_path / "chart.png", b"\x00\xff\r\n")
    assert (tmp_path / "chart.png").read_bytes() == b"\x00\xff\r\n"


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").touch()
    record.write_whole(tmp_path / "result.json", "")
    assert (tmp_path / "result.json").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_that_is_not_there_is_told_with_the_name_of_the_file(tmp_path):
    with pytest.raises(UnavailableError, match=r"result\.json': No such file or directory"):
        record.write_whole(tmp_path / "none" / "result.json", "")


WRITER = """
import sys
from pathlib import Path
from gptbench.record import write_whole
path, texts = Path(sys.argv[1]), [c * 2_000_000 for c in "ab"]
write_whole(path, texts[0])
print("ready", flush=True)
while True:
    for text in texts:
        write_whole(path, text)
        print(end=".", flush=True)
"""


@pytest.mark.parametrize(
    "writes", [*range(15), *(pytest.param(n, marks=pytest.mark.slow) for n in range(15, 50))]
)
def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path, writes):
    """METHOD pitfall 61."""
    path = tmp_path / "result.json"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        writer.stdout.read(1 + writes % 5)
        # The next write has begun; each trial lets it come a little further.
        for _ in range(writes * 500):
            pass
        writer.send_signal(signal.SIGKILL)
    text = path.read_text()
    assert text in ("a" * 2_000_000, "b" * 2_000_000)


# -- the folder for results -------------------------------------------------------------------


def test_the_folder_for_results_is_made_with_its_parents(tmp_path):
    assert record.output_folder(tmp_path / "a" / "b").is_dir()


def test_making_the_folder_leaves_nothing_in_it(tmp_path):
    assert list(record.output_folder(tmp_path / "a").iterdir()) == []


def test_a_folder_that_is_a_file_is_refused_with_its_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(QuestionError, match=r"--out '.*file' cannot be written to: "):
        record.output_folder(tmp_path / "file")


def test_a_folder_below_a_file_is_refused_with_its_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(QuestionError, match=r"--out '.*deeper' cannot be written to: "):
        record.output_folder(tmp_path / "file" / "deeper")
