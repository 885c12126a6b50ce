"""Counts what every operator of a model costs while it runs, forward and backward, by module.

A TorchDispatchMode sees the operators that are left below autograd, in both passes.

A forward that is computed a second time, as activation checkpointing does, is `recompute` and no
part of the backward. What a checkpoint really runs is counted: torch.utils.checkpoint without
reentry stops as soon as it has what the backward needs, so that a last product, whose result nobody
keeps, is not run again. A recomputed module is charged to the modules that called it in the forward
pass; products that a checkpointed function does by itself, outside of any module that it calls, are
charged to the module that was running where the backward first needed them.
"""

import sys
from collections import Counter, defaultdict
from typing import Any, Literal

import torch
from torch.utils import checkpoint
from torch.utils._python_dispatch import TorchDispatchMode

from gptbench.worker import operators
from gptbench.worker.modules import RunningModules

Pass = Literal["forward", "backward", "recompute"]
PASSES: tuple[Pass, ...] = ("forward", "backward", "recompute")


class OperatorCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered, and asks `modules` who runs.

    `by_module` has FLOPs of (module path, pass), everything beneath the module included;
    `by_operator` those of (operator, pass), and `calls` how often it ran; `uncounted` has, for an
    operator that may cost FLOPs and has no formula, how often each module called it.
    """

    supports_higher_order_operators = True

    def __init__(self, modules: RunningModules) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_module: Counter[tuple[str, Pass]] = Counter()
        self.by_operator: Counter[tuple[str, Pass]] = Counter()
        self.calls: Counter[str] = Counter()
        self.uncounted: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._modules = modules

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, torch._ops.OpOverload) and not operators.has_formula(func):
            # Under inference_mode an operator that is made of others comes as it is.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = operators.run(func, args, kwargs)
        cost = operators.cost(func, args, kwargs, result)
        if cost is not None:
            self._charge(operators.name(func), cost)
        elif not operators.is_free(func, args, kwargs):
            self._list(operators.name(func))
        return result

    def _charge(self, operator: str, cost: operators.Cost) -> None:
        again = self._modules.in_backward and (self._modules.running_again or _recomputing())
        direction: Pass = "forward"
        if self._modules.in_backward:
            direction = "recompute" if again else "backward"
        self.calls[operator] += 1
        # The root is charged with everything; a module that calls itself is charged once.
        for path in {"", *self._modules.of_operator(again)}:
            self.by_module[path, direction] += cost.flops
            self.by_module[path, "recompute"] += cost.again
        self.by_operator[operator, direction] += cost.flops
        self.by_operator[operator, "recompute"] += cost.again

    def _list(self, operator: str) -> None:
        stack = self._modules.of_operator(recomputed=False)
        self.uncounted[operator][stack[-1] if stack else ""] += 1


def _recomputing() -> bool:
    """Whether an operator of the backward pass belongs to a forward that is computed again.

    Autograd runs the backward without gradients, and a recomputation turns them on, because it
    needs a graph. Parts of it may turn them off again, as custom functions do: then the checkpoint
    is found among the callers.
    """
    if torch.is_grad_enabled():
        return True
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name != "_engine_run_backward":
        if frame.f_code.co_filename == checkpoint.__file__:
            return True
        frame = frame.f_back
    return False
