"""The picture of a scaling law that was fitted: its runs, and where a budget is best spent."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gptbench.report.figures import ACCENT, MUTED, SECOND, THIRD, figure_of, style, svg
from gptbench.report.scalings import size_of
from gptbench.scaling import LAWS, Law
from gptbench.scaling_fit import Fit

# How far beyond the runs the lines go, as a factor of FLOPs.
BEYOND = 30

# Laws of others that are drawn beside the fit.
BESIDE = {"kaplan": SECOND, "besiroglu": THIRD}

POINTS = 40


def frontier(found: Fit, within: str = "") -> str:
    """Loss and parameters over FLOPs: the runs, and the law at its best."""
    budgets = _budgets([run.flops for run in found.runs])
    with style():
        figure, (loss, size) = figure_of(3.1, panels=2)
        for axes, title in ((loss, "loss, nats a token"), (size, "parameters")):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda flops, _: f"{flops:.0e}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel("FLOPs")
            axes.set_title(title)
        flops = [run.flops for run in found.runs]
        loss.scatter(flops, [run.loss for run in found.runs], s=14, color=MUTED, linewidths=0)
        best = [found.law.optimum(budget) for budget in budgets]
        loss.plot(budgets, [one.loss or math.nan for one in best], color=ACCENT, lw=2)
        size.set_yscale("log")
        size.yaxis.set_major_formatter(FuncFormatter(lambda count, _: size_of(count)))
        size.yaxis.set_minor_formatter(NullFormatter())
        size.scatter(flops, [run.parameters for run in found.runs], s=14, color=MUTED, linewidths=0)
        _line(size, found.law, budgets, ACCENT, "fit")
        for law in LAWS:
            if law.key in BESIDE:
                _line(size, law, budgets, BESIDE[law.key], law.key)
        size.legend(loc="lower right", frameon=False)
        last = found.law.optimum(budgets[-1])
        words = (
            f"{len(found.runs)} runs of {flops and min(flops):.3g} to {max(flops):.3g} FLOPs. The law "
            f"puts {budgets[-1]:.3g} FLOPs into {size_of(last.parameters)} parameters and "
            f"{size_of(last.tokens)} tokens, for a loss of {last.loss:.3f}."
        )
        return svg(figure, f"{within}frontier", "Loss and parameters over FLOPs", words)


def _budgets(flops: Sequence[float]) -> list[float]:
    low, high = math.log(min(flops)), math.log(max(flops) * BEYOND)
    return [math.exp(low + (high - low) * at / (POINTS - 1)) for at in range(POINTS)]


def _line(axes: Axes, law: Law, budgets: Sequence[float], colour: str, name: str) -> None:
    """The optimum of a law over budgets."""
    sizes = [law.optimum(budget).parameters for budget in budgets]
    axes.plot(budgets, sizes, color=colour, lw=2, label=name)
