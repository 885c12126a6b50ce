"""The pages that people send around: what stands on them, and what must never."""

import base64
import csv
import io
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
import scalings
import trainings

import comparisons as compared
import profiles
import records
from gptbench import comparison, metrics, module_times, waterfall
from gptbench.report import (
    checks,
    delimited,
    heatmap,
    markdown,
    pairs,
    plot,
    results,
    rooflines,
)
from gptbench.report import profiles as tables
from gptbench.report.pages import comparison as comparison_page
from gptbench.report.pages import profile as profile_page
from gptbench.report.pages import result as result_page
from gptbench.report.pages import scaling as scaling_page
from gptbench.report.pages import training as training_page
from gptbench.telemetry import Energy, Host, Sample, Telemetry

TWO_MB = 2_000_000


def layered(**changes):
    found = profiles.layered(**changes)
    return found, waterfall.derive(found)


def of_profile(found):
    return profile_page.page(found, waterfall.derive(found))


def of_comparison(found):
    return comparison_page.page(found, "gptbench compare BASE NEW", "0.1.0")


PAGES = {
    "result": result_page.page([records.ON_GPU]),
    "profile": of_profile(profiles.layered()),
    "comparison in turns": of_comparison(compared.in_turns()),
    "comparison of several": of_comparison(compared.several()),
    "training": training_page.page(trainings.learned(records.ON_CPU)),
    "scaling law": scaling_page.page(scalings.answered(), "gptbench scaling --fit runs.csv"),
}


def downloads(page):
    """The files that a page carries, by name."""
    links = re.findall(
        r'download="([^"]+)" href="data:text/csv;charset=utf-8;base64,([^"]*)"', page
    )
    return {name: base64.b64decode(data).decode() for name, data in links}


# -- every page -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_asks_nothing_of_any_network(page):
    """Pitfall 62."""
    without_data = re.sub(r'href="data:[^"]*"', "", page)
    assert re.findall(r"https?:|\bsrc=|@import|url\((?!#)|<link|<iframe", without_data) == []
    assert "default-src 'none'" in page


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_ids_of_a_page_are_unique_and_every_reference_is_to_one(page):
    ids = re.findall(r'\sid="([^"]*)"', page)
    named = {i for v in re.findall(r'aria-labelledby="([^"]*)"', page) for i in v.split()}
    assert len(ids) == len(set(ids))
    assert named <= set(ids)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_picture_of_a_page_says_what_it_shows(page):
    pictures = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert pictures
    assert [p.attrib["role"] for p in pictures] == ["img"] * len(pictures)
    assert all(picture.findtext("title") for picture in pictures)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_text_of_a_picture_is_the_source_of_a_formula(page):
    """matplotlib's own labels of powers of ten are; gptbench has it read none."""
    pictures = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert [text for p in pictures for text in p.itertext() if "$" in text] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_chart_of_a_page_has_its_data_as_a_file_that_parses(page):
    files = downloads(page)
    charts = page.count("<figure>") + page.count('class="heat"')
    assert len(files) == charts + 1
    assert all(len(list(csv.reader(io.StringIO(text)))) > 1 for text in files.values())


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_ends_with_the_command_that_measures_again(page):
    assert re.search(r"<code>gptbench \w+", page)


# -- names that mean harm: pitfall 63 ------------------------------------------------------


def hostile_profile():
    row = profiles.work("other", 50_000_000, operator=records.HOSTILE, module=records.HOSTILE)
    found = replace(profiles.profile(row), command=records.HOSTILE)
    return replace(found, model=replace(records.GPT2_SMALL, name=records.HOSTILE))


HOSTILE_PAGES = {
    "result": result_page.page([records.named(records.HOSTILE)]),
    "profile": of_profile(hostile_profile()),
    "layers": of_profile(profiles.layered(name=records.HOSTILE)),
    "comparison": of_comparison(compared.in_turns(base=records.HOSTILE, new=records.HOSTILE)),
    "benchmark": of_comparison(compared.several(records.HOSTILE)),
}


@pytest.mark.parametrize("page", HOSTILE_PAGES.values(), ids=HOSTILE_PAGES)
def test_a_name_that_is_a_script_is_text_on_the_page(page):
    assert records.HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1


@pytest.mark.parametrize("start", "=+-@")
def test_a_kernel_whose_name_is_a_formula_is_text_in_the_csv_of_the_page(start):
    row = profiles.work("other", 50_000_000, operator=f"{start}1+1")
    text = downloads(of_profile(profiles.profile(row)))["profile.csv"]
    assert f"'{start}1+1" in text
    assert f",{start}1+1" not in text


def test_a_kernel_whose_name_is_a_script_is_text_in_markdown():
    found = hostile_profile()
    rendered = markdown.render(tables.tables(found, waterfall.derive(found))[0])
    assert records.HOSTILE not in rendered
    assert "&lt;script&gt;" in rendered


# -- how large a page gets ------------------------------------------------------------------------


def with_steps(count, slow=()):
    steps = records.step_times(count, 10**7, slow)
    taken = replace(records.ON_GPU.measurement, step_ns=steps, window_ns=sum(steps))
    return replace(records.ON_GPU, measurement=taken)


def test_a_page_of_200_000_steps_is_under_2_mb_and_shows_the_one_that_was_slow():
    """Pitfall 66: of 167 steps a pixel, the slow one is drawn."""
    rec = with_steps(200_000, slow=(123_456,))
    page = result_page.page([rec])
    assert len(page.encode()) < TWO_MB
    rows = list(csv.DictReader(io.StringIO(downloads(page)["r1-steps.csv"])))
    slowest = max(rec.measurement.step_ns) / 1e9
    assert max(float(row["slowest (s)"]) for row in rows) == slowest
    points = [(i, float(i == 123_456)) for i in range(200_000)]
    assert (123_456, 1.0) in plot._thinned(points)


@pytest.mark.slow
def test_a_profile_of_too_many_operators_carries_its_modules(monkeypatch):
    monkeypatch.setattr(profile_page, "MOST_DATA_BYTES", 1)
    page = of_profile(profiles.layered())
    assert downloads(page)["profile.csv"].startswith("module,class,calls")


def test_the_parts_of_a_waterfall_sum_to_the_step_in_their_file():
    """No total among them: whoever sums the column gets the step."""
    found, derived = layered()
    rows = list(csv.DictReader(io.StringIO(downloads(of_profile(found))["waterfall.csv"])))
    assert sum(float(row["time (s)"]) for row in rows) == pytest.approx(derived.step_ns / 1e9)


def test_the_pages_step_has_its_interval():
    found = profiles.layered()
    assert "no interval of so few" in of_profile(found)
    steps = replace(found.profiled, step_ns=tuple(range(10**8, 10**8 + 20)))
    assert "95% within-run [" in of_profile(replace(found, profiled=steps))


def test_a_profile_beside_others_says_so():
    found, _ = layered()
    host = Host(wall_ns=10**9, own_ns=10**9, threads=2, throttled_periods=9)
    seen = Telemetry(host=host, energy=Energy(joules=None, over_ns=1, reason="none"), samples=())
    disturbed = replace(found, profiled=replace(found.profiled, telemetry=seen))
    made = {c.name: c for c in checks.of_profile(disturbed, waterfall.derive(disturbed))}
    assert made["a quiet machine"].outcome == "read"
    assert made["the clock is its own"].outcome == "passed"


def test_what_is_to_be_known_stands_in_markdown_too():
    assert markdown.document([], ["Note: only 3 steps."]) == "> Note: only 3 steps.\n\n"


def test_a_page_of_a_thousand_results_is_under_2_mb():
    page = result_page.page([records.CURVED] * 1_200)
    assert len(page.encode()) < TWO_MB
    assert "200 more results are left out here" in page
    assert downloads(page)["result.csv"].count("\n") == 1_201


# -- a result -------------------------------------------------------------------------------------


def test_the_file_of_the_steps_has_every_step():
    rows = list(csv.DictReader(io.StringIO(downloads(PAGES["result"])["r1-steps.csv"])))
    assert [round(float(row["median (s)"]) * 1e9) for row in rows] == list(records.STEPS)


def test_the_step_time_stands_beside_what_95_of_100_steps_take_at_most():
    taken = replace(records.ON_GPU.measurement, step_ns=tuple(range(10**6, 102 * 10**6, 10**6)))
    page = result_page.page([replace(records.ON_GPU, measurement=taken)])
    assert "95% of the steps took at most 96 ms" in page


def test_a_distribution_counts_every_step_once():
    found = metrics.derive(records.ON_GPU)
    assert plot.step_times(records.ON_GPU, found).count("how many") == 1
    table = results.steps(records.ON_GPU, most=10_000)
    assert len(table.rows) == len(records.STEPS)


# -- checks ---------------------------------------------------------------------------------------


def outcomes(rec):
    return {check.name: check for check in checks.of_record(rec, metrics.derive(rec))}


def test_a_check_that_fails_has_the_sentence_of_its_caveat_and_comes_first():
    made = checks.of_record(records.ON_CPU, metrics.derive(records.ON_CPU))
    assert made[0].outcome == "read"
    few = outcomes(records.ON_CPU)["enough steps"]
    assert few.found == "3"
    assert few.advice[0].startswith("Only 3 steps were timed")


def test_a_check_that_passes_shows_what_was_found_and_what_is_allowed():
    enough = outcomes(records.ON_GPU)["enough steps"]
    assert (enough.outcome, enough.found, enough.limit) == ("passed", "120", "at least 10")


def test_a_check_that_could_not_be_made_says_why_and_does_not_pass():
    host = Host(wall_ns=10**9, own_ns=10**9, threads=2)
    seen = Telemetry(
        host=host,
        energy=Energy(joules=None, over_ns=10**9, reason="no counter"),
        samples=(),
        missing={"samples": "the kernel does not tell"},
    )
    clock = outcomes(replace(records.ON_CPU, telemetry=seen))["steady clock"]
    assert (clock.outcome, clock.limit) == ("unknown", "the kernel does not tell")


@pytest.mark.parametrize("rec", [records.ON_GPU, records.ON_CPU, records.NO_PEAK, records.OWN])
def test_every_caveat_is_under_one_check(rec):
    found = metrics.derive(rec)
    said = [sentence for c in checks.of_record(rec, found) for sentence in c.advice]
    assert sorted(said) == sorted(checks.caveats.sentence(c) for c in found.caveats)


def test_a_change_that_chance_makes_passes_by_the_rule_that_is_shown():
    """16 of 28 pairs rise and 11 fall: |Z| is (5 - 1)/√(8·7·21/18) = 0.49."""
    steps = (92, 106, 112, 90, 96, 91, 103, 112)
    taken = replace(records.ON_CPU.measurement, step_ns=tuple(s * 10**6 for s in steps))
    steady = outcomes(replace(records.ON_CPU, measurement=taken))["steady"]
    assert steady.outcome == "passed"
    assert steady.found == "7.2% over the window, |Z| 0.49"
    assert "|Z| up to 2.58" in steady.limit


def test_a_clock_that_is_not_of_the_steps_is_no_check_that_passed():
    host = Host(wall_ns=10**10, own_ns=10**9, threads=2, cores=2, busy_ns=10**9)
    seen = Telemetry(
        host=host,
        energy=Energy(joules=None, over_ns=10**9, reason="no counter"),
        samples=tuple(Sample(at_ns=i, clock_hz=2_000_000_000 - i * 10**7) for i in range(30)),
    )
    clock = outcomes(replace(records.ON_CPU, telemetry=seen))["steady clock"]
    assert (clock.outcome, clock.found) == ("unknown", "—")
    assert "idle" in clock.limit


def test_a_peak_that_is_stated_is_among_what_is_allowed():
    stated = replace(records.ON_GPU.device, peak_origin="stated")
    peak = outcomes(replace(records.ON_GPU, device=stated))["peak"]
    assert (peak.outcome, peak.found) == ("passed", "as stated with --peak")
    assert "stated" in peak.limit


def test_a_part_below_zero_by_less_than_is_allowed_is_not_counted():
    profile, derived = layered()
    first, *rest = derived.parts
    below = replace(derived, parts=(first, replace(rest[0], ns=-1), *rest[1:]), caveats=())
    made = {check.name: check for check in checks.of_profile(profile, below)}
    check = made["no part below zero"]
    assert (check.outcome, check.found) == ("passed", "0 are")
    assert check.limit == "none by over 0.05% of the step"


def test_the_checks_are_counted_in_a_sentence():
    made = checks.of_profile(*layered())
    words = checks.said(made)
    assert sum(map(int, re.findall(r"\d+", words.partition("checks")[2]))) == len(made)


def test_a_control_that_changed_is_to_be_read():
    moved = replace(compared.CONTROL, verdict="REGRESSED")
    found = replace(compared.in_turns(), rows=(compared.row("INCONCLUSIVE", control=moved),))
    (check,) = [c for c in checks.of_comparison(found) if c.outcome == "read"]
    assert "too unsteady" in check.advice[0]


# -- the heat map ---------------------------------------------------------------------------------


def test_a_cell_of_the_heat_map_is_the_time_of_a_part_in_a_layer():
    found = heatmap.of(*layered())
    assert found.parts == ("attn", "mlp", "the rest")
    # Forward and backward of attention, of the mlp, and of what is between, in ns.
    assert found.layers[2].ns == (2_000_000, 4_000_000, 3_000_000, 8_000_000, 500_000, 0)


def test_the_cells_of_a_layer_sum_to_what_the_layer_takes():
    profile, derived = layered()
    times = {time.path: time.ns for time in module_times.by_module(profile, derived)}
    for layer in heatmap.of(profile, derived).layers:
        assert layer.total_ns == times[layer.name]


def test_the_largest_cell_is_the_darkest_and_is_named():
    found = heatmap.of(*layered())
    assert found.most_ns == 8_000_000
    assert [found.heat(ns) for ns in (0, 4_000_000, 8_000_000)] == [0, 0.5, 1]
    assert "mlp backward in blocks.2, 8 ms" in heatmap.described(found)


def test_cells_are_written_in_one_unit():
    found = heatmap.of(*layered())
    assert found.unit[0] == "ms"
    assert [found.written(ns) for ns in (0, 500_000, 8_000_000)] == ["0.00", "0.50", "8.00"]


def test_a_model_without_equal_layers_has_no_heat_map():
    found = profiles.whole()
    assert heatmap.of(found, waterfall.derive(found)) is None
    assert "Layer by layer" not in of_profile(found)


def test_the_file_of_the_heat_map_is_in_seconds():
    rows = list(csv.DictReader(io.StringIO(downloads(PAGES["profile"])["layers.csv"])))
    assert [row["mlp backward (s)"] for row in rows] == ["0.006", "0.007", "0.008"]


# -- the roofline of a profile --------------------------------------------------------------------


def test_no_roofline_of_a_profile_is_drawn_without_a_bandwidth():
    found = profiles.layered()
    without = replace(found, memory=replace(found.memory, transfers=()))
    assert rooflines.of_profile(without, waterfall.derive(without)) is None
    assert "Under the roofs" not in of_profile(without)


# -- a comparison ---------------------------------------------------------------------------------


def test_a_page_of_one_comparison_begins_with_its_verdict():
    # exp(0.08) - 1 = 8.3% more tokens in as much time.
    assert (
        '<p class="summary">IMPROVED: &#39;--attention fused&#39; is 8.3% faster than '
        "&#39;--attention math&#39;.</p>" in PAGES["comparison in turns"]
    )


def test_a_page_of_several_begins_with_the_gravest():
    summary = '<p class="summary">1 of 5 benchmarks REGRESSED: branch against main.</p>'
    assert summary in PAGES["comparison of several"]


def test_a_bar_has_its_change_on_the_side_of_its_sign_and_outside_of_what_is_none():
    regressed = comparison_page._bar(compared.row("REGRESSED", 0.06), reach=0.1)
    assert regressed.low <= regressed.middle <= regressed.high < regressed.band[0] < 100
    improved = comparison_page._bar(compared.row("IMPROVED", -0.06), reach=0.1)
    assert 100 < improved.band[1] < improved.low <= improved.middle <= improved.high


def test_a_bar_that_is_beyond_the_picture_ends_where_it_ends():
    change = replace(compared.change(0.0), low=-float("inf"), high=float("inf"))
    found = comparison_page._bar(compared.row("INCONCLUSIVE", change=change), reach=0.1)
    assert (found.low, found.high) == (0, comparison_page.WIDTH)


def test_the_pairs_of_a_page_are_those_of_the_comparison_with_its_control():
    rows = list(csv.DictReader(io.StringIO(downloads(PAGES["comparison in turns"])["pairs-1.csv"])))
    found = compared.in_turns()
    units = (*found.rows[0].change.units, *found.control.change.units)
    expected = [comparison.in_rate(unit) for unit in units]
    assert [float(row["change"]) for row in rows] == pytest.approx(expected)


def test_the_pairs_are_told_in_words():
    change = compared.change(-0.08)
    words = ET.fromstring(pairs.pairs(change, 0.02, None)).findtext("desc")
    assert words.startswith("New is slower in 0 of 7 pairs")


def test_what_did_not_compare_has_a_dash_and_its_reason():
    line = re.search(r"pythia-70m.*?</tr>", PAGES["comparison of several"], re.DOTALL)[0]
    assert "≠ INCOMPARABLE" in line
    assert "—" in line
    assert "a reason" in line


def test_the_data_of_a_comparison_are_its_values():
    files = downloads(PAGES["comparison of several"])
    values = comparison_page.comparisons.values(compared.several())
    assert files["comparison.csv"] == delimited.table_csv(values)


def test_a_page_of_a_comparison_is_the_same_bytes_every_time():
    assert of_comparison(compared.several()) == PAGES["comparison of several"]
