"""The picture of a calibration: what was reached, under the roofs of the device.

Williams, Waterman and Patterson 2009, "Roofline": FLOP/s over FLOPs a byte, both logarithmic. A
product cannot be above its roof, and how far it is below is what there is to gain. Bytes are the
least that a product moves: each operand once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from gptbench import calibrate
from gptbench.calibrate import Calibration
from gptbench.calibration import ProductTime
from gptbench.report.figures import (
    ACCENT,
    INK,
    MUTED,
    SECOND,
    THIRD,
    figure_of,
    note,
    style,
    svg,
)
from gptbench.roofline import Roofs, Traffic
from gptbench.units import percent, si

COLOURS = (ACCENT, SECOND, THIRD, INK)
MARKERS = {"forward": "o", "dgrad": "^", "wgrad": "s"}

# Labels nearer than this to another, in points of the page, are left out.
APART = (70, 13)


@dataclass(frozen=True, slots=True)
class Point:
    """A product in the picture. `label` is a name of the ledger, or a side length."""

    label: str
    direction: str
    intensity: float
    flops_per_s: float


def roofline(found: Calibration, within: str = "") -> str:
    """The model's products under the roofs of their dtype, or all squares; empty without copies."""
    shown = (found.work.dtype,) if found.work else found.dtypes
    roofs = [limits for dtype in shown if (limits := found.roofs(dtype)) is not None]
    if not roofs:
        return ""
    series = [(limits, points(found, limits.dtype)) for limits in roofs]
    with style():
        figure, (axes,) = figure_of(4.6)
        axes.set_position((0.11, 0.13, 0.86, 0.76))
        left, right = _ends(series)
        for colour, (limits, shown_points) in zip(COLOURS, series, strict=False):
            _roof(axes, limits, (left, right), colour)
            _spec(axes, found, limits, (left, right))
            _dots(axes, shown_points, colour)
        _name_dots(axes, [point for _, every in series for point in every])
        axes.set_xlim(left, right)
        _scales(axes)
        axes.set_title("FLOP/s of a product over its FLOPs a byte", color=INK, pad=14)
        return svg(figure, f"{within}roofline", "Roofline as measured", _words(series))


def points(found: Calibration, dtype: str) -> tuple[Point, ...]:
    """The products that were timed: the model's where there is one, else the squares."""
    times = {time.shape: time for time in found.times(dtype)}
    if found.work is None:
        return tuple(_point(str(t.shape.m), "forward", t) for t in found.squares(dtype))
    return tuple(
        _point(product.name, product.direction, times[product.shape])
        for product in found.products
        if product.shape in times
    )


def _point(label: str, direction: str, time: ProductTime) -> Point:
    traffic = Traffic(label, time.shape.flops, time.shape.moved_bytes(time.dtype))
    return Point(label, direction, traffic.intensity, time.flops_per_s)


def _ends(series: Sequence[tuple[Roofs, Sequence[Point]]]) -> tuple[float, float]:
    """From well below the lowest ridge to well beyond the last point."""
    ridges = [limits.ridge for limits, _ in series]
    at = [point.intensity for _, every in series for point in every]
    return min(*ridges, *at) / 6, max(*ridges, *at) * 2.5


def _roof(axes: Axes, limits: Roofs, ends: tuple[float, float], colour: str) -> None:
    left, right = ends
    ridge, peak, slope = limits.ridge, limits.peak_flops_per_s, limits.bandwidth_bytes_per_s
    axes.plot([left, ridge, right], [left * slope, peak, peak], color=colour, lw=1.6)
    label = f"{limits.dtype} {si(peak, 'FLOP/s')}"
    note(axes, label, (right, peak), (0, 5), ha="right", color=colour, weight="bold")
    if colour == COLOURS[0]:
        note(axes, f"{si(slope, 'B/s')}", (left, left * slope), (10, 0), va="top", color=colour)


def _spec(axes: Axes, found: Calibration, limits: Roofs, ends: tuple[float, float]) -> None:
    """The roofs that the device's datasheet promises, where the table knows them."""
    peak = calibrate.spec_peak(found, limits.dtype)
    bandwidth = found.row.bandwidth_bytes_per_s if found.row else None
    left, right = ends
    if peak is None or bandwidth is None:
        return
    x, y = [left, peak / bandwidth, right], [left * bandwidth, peak, peak]
    axes.plot(x, y, color=MUTED, lw=1, ls=(0, (4, 3)))
    text = f"table: {si(peak, 'FLOP/s')}, {si(bandwidth, 'B/s')}"
    note(axes, text, (right, peak), (0, 5), ha="right", color=MUTED)


def _dots(axes: Axes, every: Sequence[Point], colour: str) -> None:
    for direction, marker in MARKERS.items():
        some = [(p.intensity, p.flops_per_s) for p in every if p.direction == direction]
        if some:
            x, y = zip(*some, strict=True)
            name = direction if len({p.direction for p in every}) > 1 else None
            axes.plot(x, y, marker, ms=5, mfc="none", mec=colour, mew=1.3, label=name)
    if len({p.direction for p in every}) > 1:
        axes.legend(frameon=False, ncols=3, handletextpad=0.1, loc="lower right")


def _name_dots(axes: Axes, every: Sequence[Point]) -> None:
    """A name at each point that has room for one, the lowest first: there is most to gain."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    figure = axes.get_figure()
    assert figure is not None
    taken: list[tuple[float, float]] = []
    for point in sorted(every, key=lambda p: p.flops_per_s):
        at = (point.intensity, point.flops_per_s)
        x, y = axes.transData.transform(at) * 72 / figure.dpi
        if all(abs(x - a) > APART[0] or abs(y - b) > APART[1] for a, b in taken):
            taken.append((x, y))
            note(axes, point.label, at, (7, -4), color=MUTED)


def _scales(axes: Axes) -> None:
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, digits=1)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("FLOPs a byte, each operand moved once")


def _words(series: Sequence[tuple[Roofs, Sequence[Point]]]) -> str:
    """What the picture shows, for who does not see it."""
    sentences = []
    for limits, every in series:
        reached = {p: p.flops_per_s / _attainable(limits, p) for p in every}
        sentence = (
            f"{limits.dtype}: {si(limits.peak_flops_per_s, 'FLOP/s')} at best, "
            f"{si(limits.bandwidth_bytes_per_s, 'B/s')}, so that products are the limit from "
            f"{limits.ridge:.1f} FLOPs a byte on"
        )
        if reached:
            lowest = min(reached, key=reached.__getitem__)
            sentence += (
                f". Of {len(every)} products {lowest.label} ({lowest.direction}) is furthest "
                f"below its roof, at {percent(reached[lowest])}"
            )
        sentences.append(f"{sentence}.")
    return " ".join(sentences)


def _attainable(limits: Roofs, point: Point) -> float:
    return min(limits.peak_flops_per_s, point.intensity * limits.bandwidth_bytes_per_s)
