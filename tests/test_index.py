"""The page and tables of many results."""

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
from trainings import learned

import histories
import profiles as made
import records
from gptbench import archive, history
from gptbench.archive import Archive, Filed, Lost
from gptbench.conventions import EXACT
from gptbench.documents import dump_json
from gptbench.report import (
    delimited,
    markdown,
    trend_plot,
    trends,
)
from gptbench.report.figures import style
from gptbench.report.pages import index
from gptbench.report.table import Column, Link, Table

HERE = Path("/nowhere")
PROFILED = (Filed(name="p/profile.json", path=HERE / "p/profile.json", value=made.whole()),)


def filed(rec, name):
    return Filed(name=name, path=HERE / name, value=rec)


def archived(*found, lost=()):
    numbered = tuple(filed(rec, f"{i:02}/result.json") for i, rec in enumerate(found))
    return history.derive(
        Archive(records=numbered, profiles=(), trainings=(), lost=lost, walked=True), EXACT
    )


TRAINED = (Filed(name="t/train.json", path=HERE / "t/train.json", value=learned(records.ON_CPU)),)
HISTORY = archived(
    *(histories.night(i, f) for i, f in enumerate(histories.SLOWER)),
    histories.night(3, rec=records.ON_CPU),
    histories.night(4, rec=records.OWN),
    lost=(Lost(name="<b>torn</b>.json", kind="unreadable", reason="is not JSON"),),
)
HISTORY = replace(HISTORY, profiles=PROFILED, trainings=TRAINED)
PAGE = index.page(HISTORY, EXACT, HERE)


def cell(found, row, column):
    names = [c.name for c in found.columns]
    return found.rows[row][names.index(column)]


def without_data(page):
    return re.sub(r'href="data:[^"]*"', "", page)


def test_the_same_results_make_the_same_bytes():
    assert index.page(HISTORY, EXACT, HERE) == PAGE


def test_the_page_begins_with_what_changed_last():
    summary = re.search(r'<p class="summary">(.*?)</p>', PAGE)[1]
    assert "1 of 3 benchmarks changed its level" in summary
    assert "-9.1% tokens/s since 2026-01-13" in summary


def test_a_module_that_reads_no_tokens_changes_in_samples():
    history_of_images = archived(
        *(histories.night(i, f, rec=records.OWN) for i, f in enumerate(histories.SLOWER))
    )
    page = index.page(history_of_images, EXACT, HERE)
    assert "-9.1% samples/s since 2026-01-13" in page
    assert "tokens/s" not in without_data(page)
    units = [c.unit for c in trends.changes(history_of_images).columns if c.unit]
    assert units == ["samples/s", "samples/s"]


def test_the_page_asks_nothing_of_any_network():
    found = re.findall(r"https?:|//\w+\.|\bsrc=|@import|url\(|<link|<iframe", without_data(PAGE))
    assert found == []


def test_ids_are_unique_and_references_are_to_something():
    ids = re.findall(r'\sid="([^"]*)"', PAGE)
    assert len(ids) == len(set(ids))
    named = {i for v in re.findall(r'aria-labelledby="([^"]*)"', PAGE) for i in v.split()}
    assert named | set(re.findall(r'href="#([^"]*)"', PAGE)) <= set(ids)


def test_every_benchmark_with_several_results_has_its_chart_and_data():
    assert PAGE.count("<svg") == 1
    assert '<a href="#trend-1">gpt2-small, train' in PAGE
    assert "Changes of level: -9.1% from result 13 on." in PAGE


def test_what_has_no_result_is_a_row_and_its_name_is_text():
    assert "&lt;b&gt;torn&lt;/b&gt;.json" in PAGE
    assert "<b>torn" not in PAGE


def test_a_name_that_is_a_script_is_text_everywhere():
    hostile = archived(*(replace(records.named(records.HOSTILE), batch_search=None),) * 2)
    page = index.page(hostile, EXACT, HERE)
    assert records.HOSTILE not in page
    assert page.count("<script>") == 1


def test_the_page_is_there_without_results_but_with_profiles():
    page = index.page(replace(archived(), profiles=PROFILED), EXACT, HERE)
    assert "1 profile, and no result to draw over time" in page


def test_data_of_the_page_are_its_table():
    found = re.search(r'download="results.csv" href="[^"]*base64,([^"]*)"', PAGE)[1]
    read = pd.read_csv(io.StringIO(base64.b64decode(found).decode()))
    assert len(read) == 22
    assert next(iter(read["result"])) == "19/result.json"


def test_results_are_the_newest_first_and_the_older_ones_are_counted():
    found = trends.newest(HISTORY, EXACT, 5)
    assert found.title == "Newest 5 of 22 results"
    assert cell(found, 0, "result") == "19/result.json"
    assert "17 older ones are in result.csv (--out DIR)." in found.notes


def test_a_result_links_to_the_page_beside_it_and_to_no_other(tmp_path):
    odd = tmp_path / "kept/javascript:alert(1) #?"
    histories.stored(odd / "result.json", histories.night(1))
    (odd / "report.html").touch()
    histories.stored(tmp_path / "kept/plain/result.json", histories.night(2))
    histories.stored(tmp_path / "kept/report/other.json", histories.night(3))
    (tmp_path / "kept/report/report.html").touch()
    found = history.derive(archive.gathered([tmp_path / "kept"]), EXACT)
    rows = trends.newest(found, EXACT, 9, tmp_path / "out").rows
    links = [getattr(row[0], "href", None) for row in rows]
    assert links == [None, None, "../kept/javascript%3Aalert%281%29%20%23%3F/report.html"]


def test_a_link_is_text_for_everything_but_a_page():
    linked = Table("t", (Column("a"),), ((Link("text", "page.html"),),))
    plain = Table("t", (Column("a"),), (("text",),))
    assert delimited.table_csv(linked) == delimited.table_csv(plain)
    assert markdown.render(linked) == markdown.render(plain)


def test_a_device_that_all_share_is_said_once():
    (series,) = archived(histories.night(0), histories.night(1)).series
    found = trends.benchmarks(replace(HISTORY, series=(series,), lost=()), EXACT)
    assert "on NVIDIA A100" in found.title
    assert "device" not in [c.name for c in found.columns]
    assert "device" in [c.name for c in trends.benchmarks(HISTORY, EXACT).columns]


def test_the_document_has_every_result_level_and_loss():
    found = json.loads(dump_json(trends.document(HISTORY, EXACT)))
    first = found["benchmarks"][0]
    assert [level["results"] for level in first["levels"]] == [12, 8]
    assert len(first["results"]) == 20
    assert first["changes"][0]["from"].startswith("2026-01-13")
    assert found["lost"][0]["kind"] == "unreadable"
    assert found["profiles"][0]["model"] == "gpt2-small"


def test_rows_that_short_series_leave_are_those_of_long_ones():
    assert index._rows_of_each([40, 2, 100], 60) == [29, 2, 29]
    assert index._rows_of_each([3, 4], 60) == [3, 4]


def test_a_series_too_long_for_dots_is_a_line_with_its_intervals():
    (series,) = archived(*(histories.night(i) for i in range(130))).series
    with style():
        drawn = trend_plot.trend(series, "t")
    assert drawn.count("<use") < 40
    assert drawn == _again(series)


def _again(series):
    with style():
        return trend_plot.trend(series, "t")


def test_without_a_peak_the_chart_says_so():
    facts = {"device": records.NO_PEAK.device}
    (series,) = archived(*(histories.night(i, **facts) for i in range(2))).series
    with style():
        assert "MFU: no peak is known" in trend_plot.trend(series, "t")


# -- Markdown for a pull request ------------------------------------------------------------------


def test_pitfall_64_ten_thousand_results_fit_into_a_pull_requests_comment():
    rows = tuple((f"night {i}", "1,234 tokens/s") for i in range(10_000))
    short = Table("short", (Column("a"),), (("kept",),))
    long = Table("long", (Column("a"), Column("b")), rows)
    text = markdown.document([short, long])
    assert 50_000 < len(text.encode()) <= 60_000
    assert text.startswith(markdown.render(short))
    assert f"{10_000 - text.count('night'):,} more rows are omitted here." in text


def test_pitfall_64_details_are_left_out_before_what_comes_first():
    wide = tuple((f"row {i}", "x" * 40) for i in range(1000))
    tables = [Table(name, (Column("a"), Column("b")), wide) for name in ("first", "second")]
    text = markdown.document(tables)
    assert len(text.encode()) <= 60_000
    first, second = text.split("### second")
    assert "omitted" not in first
    assert "omitted" in second
