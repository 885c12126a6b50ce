"""The page of a profile, profile.html: where the time of a step goes."""

from gptbench.components import roofs
from gptbench.profiling import Profile
from gptbench.report import (
    checks,
    components,
    delimited,
    heatmap,
    modules,
    profiles,
    rooflines,
    waterfalls,
    words,
)
from gptbench.report.heatmap import HeatMap
from gptbench.report.pages.parts import (
    Chart,
    Download,
    Number,
    csv_file,
    joined,
    moment,
    render,
    trust,
)
from gptbench.report.results import interval
from gptbench.units import percent, seconds
from gptbench.waterfall import Part, Waterfall, useful_share

# Levels of the model's tree: a page has room for more than a terminal.
DEPTH = modules.DEPTH + 2

# The data of more operators than this are in the profile.csv beside the page.
MOST_DATA_BYTES = 600_000

# Names of parts within a sentence, where they are not those of the table.
IN_WORDS = {
    "products": "its matrix products",
    "reach": "a peak out of reach",
    "shape": "products of unfavourable shapes",
    "context": "products slower in the step",
    "optimizer": "the optimizer",
    "loss": "the loss",
    "elementwise": "element-wise work",
    "data": "reading data",
    "host": "the host between operators",
    "sync": "the host waiting for the device",
}


def page(found: Profile, derived: Waterfall) -> str:
    """The whole page; the same profile gives the same bytes."""
    tables = profiles.tables(found, derived, DEPTH, indented=False)
    roofline = _roofline(found, derived)
    text = delimited.table_csv(profiles.tidy(found, derived))
    note = "A row an operator in each module, pass and shape: what all the rest is made of."
    if len(text) > MOST_DATA_BYTES:
        text = delimited.table_csv(modules.tree(found, derived, DEPTH, indented=False))
        note = "A row a module; the single operators are in the profile.csv beside this page."
    heat = heatmap.of(found, derived)
    return render(
        "profile.html.j2",
        title=f"Where the time of {found.model.name} goes on {found.device.name}",
        summary=_summary(found, derived),
        setting=f"{words.workload(found.workload)}. Started {moment(found.started_at)}.",
        numbers=_numbers(found, derived),
        trust=trust(checks.of_profile(found, derived)),
        waterfall=_waterfall(found, derived),
        heat=heat,
        heat_words=heatmap.described(heat) if heat else "",
        heat_file=_heat_file(heat) if heat else None,
        roofline=roofline,
        # Those of the charts stand with their charts.
        tables=[one for one in tables[1:] if roofline is None or one != roofline.data],
        provenance=profiles.provenance(found),
        command=found.command,
        data=csv_file("profile.csv", text),
        data_note=note,
        version=found.gptbench_version,
    )


def _summary(found: Profile, derived: Waterfall) -> str:
    """The step, how much of it is useful, and the two parts that cost most."""
    mfu = useful_share(derived, found)
    used = "its MFU is unknown" if mfu is None else f"its MFU is {percent(mfu)}"
    step = seconds(derived.step_ns / 1e9)
    sentence = f"A step of {found.model.name} takes {step}; {used}."
    costly = [
        f"{IN_WORDS.get(part.key, profiles.NAMES[part.key])} ({percent(part.ns / derived.step_ns)})"
        for part in _lost(derived)[:2]
    ]
    return f"{sentence} Most of the rest is {joined(costly)}." if costly else sentence


def _lost(derived: Waterfall) -> list[Part]:
    """What is not ideal, the largest first."""
    lost = [part for part in derived.parts if part.kind != "ideal" and part.ns > 0]
    return sorted(lost, key=lambda part: -part.ns)


def _numbers(found: Profile, derived: Waterfall) -> tuple[Number, ...]:
    """The step, how much of it is useful, the largest loss, and what nobody answers for."""
    step = seconds(derived.step_ns / 1e9)
    turns = f"median without the profiler; {interval(derived.step_time_s, seconds)}"
    mfu = useful_share(derived, found)
    numbers = [Number("step time", step, turns)]
    if mfu is not None:
        numbers.append(Number("MFU", percent(mfu), found.device.peak_source))
    for most in _lost(derived)[:1]:
        share = percent(most.ns / derived.step_ns)
        numbers.append(Number("largest loss", share, profiles.NAMES[most.key]))
    unexplained = percent(derived.unexplained)
    numbers.append(Number("unexplained", unexplained, "is to be under 5%"))
    return tuple(numbers)


def _waterfall(found: Profile, derived: Waterfall) -> Chart:
    return Chart(
        "Where the time of a step goes",
        waterfalls.waterfall(derived),
        f"Each bar begins where the one above it ends. {waterfalls.described(derived)}",
        profiles.parts(found, derived),
        "waterfall.csv",
    )


def _roofline(found: Profile, derived: Waterfall) -> Chart | None:
    """Each component of the step under the roofs; None where one of the roofs is unknown."""
    drawn, limits = rooflines.of_profile(found, derived), roofs(found)
    if drawn is None or limits is None:
        return None
    return Chart(
        "Under the roofs of this device",
        rooflines.picture(drawn),
        "The larger a ring, the more of the step it takes. Nothing can do more FLOP/s than the flat "
        "roof, nor more than its FLOPs a byte times the bandwidth; a product whose operands a cache "
        "holds can be above the slope. What has no FLOPs has no point.",
        components.table(found, derived, limits),
        "roofline.csv",
    )


def _heat_file(heat: HeatMap) -> Download:
    return csv_file("layers.csv", delimited.table_csv(heatmap.table(heat)))
