"""The pages as a person meets them: in a browser, without a network.

The browser is the system's Chromium; without one these tests are skipped.
"""

import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import scalings
import trainings
from test_index import HERE, HISTORY

import calibrations
import comparisons
import profiles
import records
from gptbench import waterfall
from gptbench.conventions import EXACT
from gptbench.report import delimited, results
from gptbench.report.pages import (
    calibration,
    comparison,
    index,
    profile,
    result,
    scaling,
    training,
)

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
axe_core = pytest.importorskip("axe_playwright_python.base", reason="carries axe-core")

NAMES = ("chromium", "google-chrome", "chromium-browser")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(NAMES)} is here")

LAYERED = profiles.layered(4)

PAGES = {
    "result": partial(result.page, [records.CURVED]),
    "several": partial(result.page, [records.ON_GPU, records.ON_CPU, records.NO_PEAK]),
    "hostile": partial(result.page, [records.named(records.HOSTILE)]),
    "profile": lambda: profile.page(LAYERED, waterfall.derive(LAYERED)),
    "calibration": lambda: calibration.page(calibrations.found(), "0.1.0"),
    "comparison": lambda: comparison.page(comparisons.in_turns(), "gptbench compare", "0.1.0"),
    "comparisons": lambda: comparison.page(comparisons.several(), "gptbench compare", "0.1.0"),
    "index": lambda: index.page(HISTORY, EXACT, HERE),
    "training": lambda: training.page(trainings.learned(records.ON_CPU)),
    "scaling": lambda: scaling.page(scalings.answered(), "gptbench scaling"),
}

WIDTHS = (320, 768, 1280)
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every kind of page as a file."""
    place = tmp_path_factory.mktemp("pages")
    for name, page in PAGES.items():
        (place / f"{name}.html").write_text(page(), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def person(browser):
    """A window in light colours, as the pages forbid what is not theirs."""
    context = browser.new_context(offline=True, color_scheme="light", accept_downloads=True)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def examiner(browser):
    """A window that may run a script of its own: the pages' policy would refuse axe-core."""
    context = browser.new_context(offline=True, bypass_csp=True)
    yield context.new_page()
    context.close()


def opened(page, folder, name):
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto((folder / f"{name}.html").as_uri())
    return page


def body_rows(table):
    return table.locator("tbody tr:visible")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_a_network_and_says_nothing_on_the_console(person, folder, name):
    said, asked = [], []
    heard = {
        "console": lambda message: said.append(message.text),
        "pageerror": lambda error: said.append(str(error)),
        "dialog": lambda dialog: (said.append(dialog.message), dialog.dismiss()),
        "request": lambda request: asked.append(request.url),
    }
    for event, listen in heard.items():
        person.on(event, listen)
    opened(person, folder, name)
    for event, listen in heard.items():
        person.remove_listener(event, listen)
    assert said == []
    assert asked == [(folder / f"{name}.html").as_uri()]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_never_scrolls_sideways(person, folder, name):
    opened(person, folder, name)
    wider = []
    for width in WIDTHS:
        person.set_viewport_size({"width": width, "height": 800})
        if person.evaluate("document.documentElement.scrollWidth") > width:
            wider.append(width)
    assert wider == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "hostile"])
def test_axe_finds_no_violation_in_light_and_dark(examiner, folder, name):
    opened(examiner, folder, name)
    examiner.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    examiner.evaluate(axe_core.AXE_SCRIPT)
    for scheme in ("light", "dark"):
        examiner.emulate_media(color_scheme=scheme)
        found = examiner.evaluate("axe.run({resultTypes: ['violations']})")
        violations = [(v["id"], [n["html"] for n in v["nodes"]]) for v in found["violations"]]
        assert violations == [], scheme


def test_a_heading_sorts_its_table_up_and_with_the_keyboard_down(person, folder):
    opened(person, folder, "profile")
    table = person.get_by_role("group", name="Where in the model").locator("table")
    values = "cells => cells.map((cell) => Number(cell.dataset.value))"
    heading = table.get_by_role("columnheader", name="share")
    heading.get_by_role("button").click()
    upward = body_rows(table).locator("td:nth-of-type(6)").evaluate_all(values)
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").press("Enter")
    downward = body_rows(table).locator("td:nth-of-type(6)").evaluate_all(values)
    assert heading.get_attribute("aria-sort") == "descending"
    assert upward[0] < upward[-1]
    assert (upward, downward) == (sorted(upward), sorted(upward, reverse=True))


def test_what_has_no_number_stays_below_whichever_way_a_table_is_sorted(person, folder):
    opened(person, folder, "profile")
    table = person.get_by_role("group", name="Where in the model").locator("table")
    heading = table.get_by_role("columnheader", name="calls")
    for _ in ("up", "down"):
        heading.get_by_role("button").click()
        at = heading.evaluate("head => head.cellIndex")
        cells = body_rows(table).evaluate_all(
            "(rows, at) => rows.map((row) => 'value' in row.cells[at].dataset)", at
        )
        assert cells == sorted(cells, reverse=True)
        assert len(set(cells)) == 2


def test_a_search_leaves_the_rows_that_have_all_of_its_words(person, folder):
    opened(person, folder, "calibration")
    table = person.get_by_role("group", name="Matrix products of NVIDIA H100").locator("table")
    box, said = person.get_by_role("searchbox").first, person.get_by_role("status").first
    box.fill("BFLOAT16 4096")
    (left,) = body_rows(table).all_inner_texts()
    assert left.startswith("bfloat16\t[4096, 4096, 4096]")
    assert said.inner_text() == "1 of 20"
    box.fill("")
    assert (body_rows(table).count(), said.inner_text()) == (20, "")


def test_the_switch_turns_the_page_dark_and_back(person, folder):
    opened(person, folder, "result")
    light = person.evaluate(PAPER)
    person.get_by_role("button", name="Dark").click()
    dark = person.evaluate(PAPER)
    person.get_by_role("button", name="Light").click()
    assert dark != light == person.evaluate(PAPER)
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 64


def test_the_csv_of_a_chart_is_saved_whole(person, folder):
    opened(person, folder, "result")
    with person.expect_download() as saved:
        person.get_by_role("link", name="CSV of: Every step").click()
    text = Path(saved.value.path()).read_text(encoding="utf-8")
    assert saved.value.suggested_filename == "r1-steps.csv"
    assert text == delimited.table_csv(results.steps(records.CURVED, most=10_000))


def test_a_dark_page_is_printed_light_whole_and_without_its_controls(person, folder):
    opened(person, folder, "result")
    light = person.evaluate(PAPER)
    person.emulate_media(media="print", color_scheme="dark")
    assert person.evaluate(PAPER) == light
    assert person.get_by_role("table").last.is_visible()
    hidden = person.locator(".theme:visible, .filter:visible, .csv:visible, .skip:visible")
    assert hidden.count() == 0


def test_a_page_is_read_without_its_script(browser, folder):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = opened(context.new_page(), folder, "result")
    assert page.get_by_role("heading", level=1).is_visible()
    assert page.get_by_role("button").count() == 0
    page.get_by_text("Data of this chart").first.click()
    assert page.get_by_role("cell", name="model FLOP/s over").first.is_visible()
    context.close()
