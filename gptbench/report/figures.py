"""From a figure to inline SVG: matplotlib draws, the page's CSS variables colour, the same bytes always.

A figure is drawn in marker colours that stand for roles (ink, accent, ...), then its SVG is cleaned
for a page: markers become `var(--ink)`, text stays text in the page's font, unused ids and all
metadata go, and a title and a description say in words what the chart shows. No text of a record
is drawn: names are for the page around it.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stand for roles until they are replaced; near to what they become, for an eye that
# looks at a figure before it is.
ROLES = {
    "ink": "#1a1b1c",
    "muted": "#6a6b6c",
    "rule": "#dadbdc",
    "accent": "#0a5fa1",
    "second": "#c45a01",
    "third": "#01806b",
    "rest": "#e4e5e6",
}
INK, MUTED, RULE = ROLES["ink"], ROLES["muted"], ROLES["rule"]
ACCENT, SECOND, THIRD, REST = (ROLES[r] for r in ("accent", "second", "third", "rest"))

PAPER = "#fdfdfb"

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gptbench",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

WIDTH_IN = 7.6

_XLINK = "{http://www.w3.org/1999/xlink}"
_REFERENCE = re.compile(r"#([\w-]+)")
# matplotlib 3.8 writes 'font: 700 11px family', later ones 'font-size: 11px; font-family: family'.
_FONT = re.compile(r"font: (?:(?P<weight>\d+) )?(?P<size>[\d.]+px) [^;]*")
_FAMILY = re.compile(r"font-family: [^;]*;?\s*")


@contextmanager
def style() -> Iterator[None]:
    """Our look over matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with matplotlib.style.context(["default", STYLE]):
        yield


def figure_of(height_in: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with its panels at fixed places: nothing moves with the width of a label."""
    figure = Figure(figsize=(WIDTH_IN, height_in))
    gap = 0.1
    room = (0.98 + gap - 0.1) / panels
    axes = [figure.add_axes((0.1 + room * i, 0.2, room - gap, 0.66)) for i in range(panels)]
    for panel in axes:
        panel.tick_params(length=3)
    return figure, axes


def note(
    axes: Axes, text: str, at: tuple[float, float], points: tuple[float, float], **look: Any
) -> None:
    """A text some points away from a place in the data."""
    look.setdefault("color", INK)
    axes.annotate(text, at, xytext=points, textcoords="offset points", **look)


def svg(figure: Figure, prefix: str, title: str, description: str) -> str:
    """The figure as an SVG element for a page; `prefix` keeps its ids apart from other figures'."""
    # Nothing is drawn outside of its axes, and a page has no use for the clip paths.
    for artist in figure.findobj():
        artist.set_clip_on(False)
    file = io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=metadata)
    root = ET.fromstring(file.getvalue())  # noqa: S314 - written by the line above
    _drop(root, ("metadata", "style"))
    _clean(root, prefix)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{prefix}-title {prefix}-desc",
    }
    for at, (tag, words) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{prefix}-{tag}"})
        element.text = words
        root.insert(at, element)
    return ET.tostring(root, encoding="unicode")


def standalone(element: str) -> str:
    """An SVG element as a file of its own: with its namespace, and the colours that stand for roles.

    A viewer has no page's colours, and may show it on black: it brings its paper with it.
    """
    root = ET.fromstring(element)  # noqa: S314 - written by `svg`
    root.attrib = {"xmlns": "http://www.w3.org/2000/svg", **root.attrib}
    colours = "; ".join(f"--{role}: {colour}" for role, colour in ROLES.items())
    _, _, width, height = root.attrib["viewBox"].split()
    look = ET.Element("style")
    look.text = f":root {{ {colours} }} text {{ font-family: system-ui, sans-serif }}"
    paper = ET.Element("rect", {"width": width, "height": height, "fill": PAPER})
    root[2:2] = [look, paper]
    return ET.tostring(root, encoding="unicode") + "\n"


def _drop(root: ET.Element, names: Sequence[str]) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in names:
                parent.remove(child)


def _clean(root: ET.Element, prefix: str) -> None:
    """No namespaces, only ids that are used, roles for marker colours, the page's own font."""
    used = {name for e in root.iter() for v in e.attrib.values() for name in _REFERENCE.findall(v)}
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text = (element.text or "").strip() or None
        element.tail = None
        attributes = {}
        for key, value in element.attrib.items():
            if key == "id":
                if value in used:
                    attributes["id"] = f"{prefix}-{value}"
            else:
                attributes[key.removeprefix(_XLINK)] = _attribute(value, used, prefix)
        element.attrib = attributes


def _attribute(value: str, used: set[str], prefix: str) -> str:
    for role, marker in ROLES.items():
        value = value.replace(marker, f"var(--{role})")
    value = _FONT.sub(_font, _FAMILY.sub("", value))
    return _REFERENCE.sub(
        lambda found: f"#{prefix}-{found[1]}" if found[1] in used else found[0], value
    )


def _font(found: re.Match[str]) -> str:
    return f"font-size: {found['size']}; font-weight: {found['weight'] or 'normal'}"
