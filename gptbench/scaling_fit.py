"""Fits L(N, D) = E + A/N^alpha + B/D^beta to one's own runs, as Chinchilla's approach 3 does.

Hoffmann et al. 2022 (arXiv:2203.15556), section 3.3 and D.2: the sum over runs of the Huber loss
(δ = 10⁻³) of log L's residual, at its least from a grid of starts. Two things are as Besiroglu et al.
2024 (arXiv:2404.10102) have them: residuals are summed in units of δ, because a smaller sum ends the
search before it is done; and intervals are of refits to runs that were drawn again.

The search is BFGS, of which the papers' L-BFGS is the variant for more numbers than memory holds.
It needs no threads of LAPACK either, which for five numbers take forty times as long to meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize

from gptbench.errors import QuestionError
from gptbench.runs import TrainingRun
from gptbench.scaling import Parametric

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

DELTA = 1e-3

# The paper's grid of starts: of log A, log B, log E, alpha, beta.
GRID = (
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    (-1.0, -0.5, 0.0, 0.5, 1.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
    (0.0, 0.5, 1.0, 1.5, 2.0),
)

# So many of its 4,500 starts are followed to their end: those that begin lowest.
FOLLOWED = 24

# Of log A, log B (at the middle of the runs), log E, alpha and beta: far beyond any that was found.
# Outside of them the sum rises steeply.
BOUNDS = ((-30.0, 10.0), (-30.0, 10.0), (-10.0, 5.0), (0.0, 3.0), (0.0, 3.0))

STEEP = 1e4

# Those that were found lie between 0.05 and 0.5: of less, a law says nothing of other sizes.
LEAST_EXPONENT = 0.01

FEWEST_RUNS = 6
FEWEST_VALUES = 3

RESAMPLES = 200
CONFIDENCE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A law that was fitted to runs, and between which bounds each of its numbers is known.

    `intervals` has E, A, B, alpha, beta and the `exponent` of N ∝ C^a: the middle 90% of refits to
    runs drawn again with replacement. `rms` is that of the residuals of log L. `loose` are numbers
    that the runs do not determine: they ended at the bound of the search.
    """

    law: Parametric
    runs: tuple[TrainingRun, ...]
    intervals: dict[str, tuple[float, float]]
    rms: float
    loose: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Data:
    """Logarithms; sizes count from the middle of the runs, so that a slope moves no level."""

    n: Floats
    d: Floats
    loss: Floats
    middle_n: float
    middle_d: float


def fit(runs: Sequence[TrainingRun], resamples: int = RESAMPLES, seed: int = 1) -> Fit:
    """The law of the runs, with bootstrap intervals.

    Raises QuestionError for runs too few, or too alike, to determine five numbers.
    """
    _require_enough(runs)
    data = _data(runs)
    found = _best(data)
    law = _law(found, data)
    _require_falling(law)
    drawn = np.random.default_rng(seed)
    refits = []
    for _ in range(resamples):
        picked = drawn.integers(0, len(runs), len(runs))
        again = _Data(
            data.n[picked], data.d[picked], data.loss[picked], data.middle_n, data.middle_d
        )
        refits.append(_law(_followed(again, found)[1], again))
    return Fit(
        law=law,
        runs=tuple(runs),
        intervals={name: _interval(refits, name) for name in NUMBERS} if refits else {},
        rms=float(np.sqrt(np.mean(_residuals(found, data) ** 2))),
        loose=_loose(found),
    )


NUMBERS = ("E", "A", "B", "alpha", "beta", "exponent")


def _require_enough(runs: Sequence[TrainingRun]) -> None:
    sizes, lengths = ({getattr(run, key) for run in runs} for key in ("parameters", "tokens"))
    if len(runs) < FEWEST_RUNS or min(len(sizes), len(lengths)) < FEWEST_VALUES:
        raise QuestionError(
            f"{len(runs)} runs of {len(sizes)} sizes and {len(lengths)} numbers of tokens do not "
            f"determine a law of five numbers. Give at least {FEWEST_RUNS} runs, of at least "
            f"{FEWEST_VALUES} sizes and {FEWEST_VALUES} numbers of tokens."
        )


def _require_falling(law: Parametric) -> None:
    """Raise QuestionError where larger models, or more tokens, are not better: nothing is optimal."""
    for exponent, what in ((law.alpha, "larger models"), (law.beta, "more tokens")):
        if exponent < LEAST_EXPONENT:
            raise QuestionError(
                f"these runs do not show that {what} lower the loss (the exponent is "
                f"{exponent:.2g}), so that no division of a budget is the best. Give runs that do: "
                "each trained to its end, on more text than it learns by heart."
            )


def _data(runs: Sequence[TrainingRun]) -> _Data:
    n, d, loss = (
        np.log([getattr(run, key) for run in runs]) for key in ("parameters", "tokens", "loss")
    )
    middle_n, middle_d = float(n.mean()), float(d.mean())
    return _Data(n - middle_n, d - middle_d, loss, middle_n, middle_d)


def _best(data: _Data) -> Floats:
    """The lowest end of those starts of the grid that begin lowest."""
    grid = np.array(list(product(*GRID)))
    # The paper's A and B are at one parameter and one token.
    grid[:, 0] -= grid[:, 3] * data.middle_n
    grid[:, 1] -= grid[:, 4] * data.middle_d
    grid = np.clip(grid, *np.array(BOUNDS).T)
    begins = np.array([_objective(start, data)[0] for start in grid])
    ends = [_followed(data, grid[at]) for at in np.argsort(begins, kind="stable")[:FOLLOWED]]
    return min(ends, key=lambda end: end[0])[1]


def _followed(data: _Data, start: Floats) -> tuple[float, Floats]:
    """(the sum, the numbers) where the search ends."""
    options = {"maxiter": 1000, "gtol": 1e-6}
    end = minimize(_bounded, start, args=(data,), jac=True, method="BFGS", options=options)
    return float(end.fun), np.asarray(end.x, dtype=np.float64)


def _parts(numbers: Floats, data: _Data) -> Floats:
    """Logarithms of A/N^alpha, B/D^beta and E, run by run."""
    a, b, e, alpha, beta = numbers
    return np.stack((a - alpha * data.n, b - beta * data.d, np.full_like(data.n, e)))


def _residuals(numbers: Floats, data: _Data) -> Floats:
    found: Floats = np.logaddexp.reduce(_parts(numbers, data), axis=0) - data.loss
    return found


def _objective(numbers: Floats, data: _Data) -> tuple[float, Floats]:
    """The sum of Huber losses in units of δ, and its gradient."""
    parts = _parts(numbers, data)
    whole = np.logaddexp.reduce(parts, axis=0)
    off = (whole - data.loss) / DELTA
    small = np.abs(off) <= 1
    value = np.where(small, off**2 / 2, np.abs(off) - 0.5).sum()
    pull = np.clip(off, -1, 1) / DELTA
    of_n, of_d, of_e = np.exp(parts - whole) * pull
    gradient = np.array([of_n.sum(), of_d.sum(), of_e.sum(), -(of_n @ data.n), -(of_d @ data.d)])
    return float(value), gradient


def _bounded(numbers: Floats, data: _Data) -> tuple[float, Floats]:
    """The same, with a slope that leads back where a number is out of its bounds."""
    value, gradient = _objective(numbers, data)
    low, high = np.array(BOUNDS).T
    beyond = np.minimum(numbers - low, 0) + np.maximum(numbers - high, 0)
    return value + STEEP * float(beyond @ beyond), gradient + 2 * STEEP * beyond


def _law(numbers: Floats, data: _Data) -> Parametric:
    a, b, e, alpha, beta = map(float, numbers)
    return Parametric(
        "fit",
        f"fitted to {len(data.n)} runs of one's own",
        E=float(np.exp(e)),
        A=float(np.exp(a + alpha * data.middle_n)),
        B=float(np.exp(b + beta * data.middle_d)),
        alpha=alpha,
        beta=beta,
    )


def _interval(refits: Sequence[Parametric], name: str) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile([getattr(law, name) for law in refits], (tail, 1 - tail))
    return float(low), float(high)


def _loose(numbers: Floats) -> tuple[str, ...]:
    names = ("A", "B", "E", "alpha", "beta")
    return tuple(
        name
        for name, value, (low, high) in zip(names, numbers, BOUNDS, strict=True)
        if min(value - low, high - value) < 1e-6
    )
