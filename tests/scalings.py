"""An answer of `gptbench scaling`: a budget, a fit and its runs."""

from functools import cache

from test_scaling_fit import made

from gptbench import budget, scaling_fit
from gptbench.budget import Answer, Question


@cache
def answered() -> Answer:
    divided = budget.answer(Question(flops="1e21"))
    fit = scaling_fit.fit(made(), resamples=2)
    return Answer(budget=divided.budget, divisions=divided.divisions, fit=fit, unfinished=())
