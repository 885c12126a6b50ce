"""Which modules an operator belongs to, in the forward pass and, by its autograd node, in the backward.

Autograd numbers its nodes in the order in which it makes them. The modules that were running when a
node was made are those whose backward it is: so the backward of a module is found without hooks on
gradients, whatever the module is given and whichever of its tensors are frozen.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

# Paths of the modules that are running, outermost first.
Stack = tuple[str, ...]


class RunningModules:
    """Follows the modules of a model while it is entered; `calls` are those of the forward pass.

    Modules that are not in `paths` are left out: what they do belongs to their callers.
    """

    def __init__(self, paths: Mapping[nn.Module, str]) -> None:
        self.calls: Counter[str] = Counter()
        self.in_backward = False
        self._paths = paths
        self._stack: Stack = ()
        self._outer: list[Stack] = []
        self._callers: dict[str, Stack] = {}
        # From node _numbers[i] on, until the next, _stacks[i] was running.
        self._numbers: list[int] = []
        self._stacks: list[Stack] = []

    def __enter__(self) -> Self:
        self._hooks = (
            register_module_forward_pre_hook(self._enter_module),
            # Always called: a checkpoint that has what it needs leaves its modules by an exception.
            register_module_forward_hook(self._leave_module, always_call=True),
        )
        return self

    def __exit__(self, *_error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    @contextmanager
    def backward_pass(self) -> Iterator[None]:
        """Around the call of backward: a module that runs within runs a second time."""
        self.in_backward = True
        try:
            yield
        finally:
            self.in_backward = False

    @property
    def running_again(self) -> bool:
        """Whether a module is recomputed at the moment."""
        return self.in_backward and bool(self._outer)

    def of_operator(self, recomputed: bool) -> Stack:
        """The modules to which an operator that runs now belongs."""
        if not self.in_backward or self.running_again:
            return self._stack
        stack = self._of_node(torch._C._current_autograd_node())
        if recomputed:
            # Its own node was numbered a moment ago; its backward belongs where it does.
            self._note(stack, max(torch._C._autograd._get_sequence_nr() - 1, self._numbers[-1]))
        return stack

    def _of_node(self, node: Any) -> Stack:
        """The modules that were running when an autograd node was made."""
        number = node._sequence_nr() if node is not None else -1
        place = bisect_right(self._numbers, number) - 1
        return self._stacks[place] if place >= 0 else ()

    def _enter_module(self, module: nn.Module, _args: Any) -> None:
        path = self._paths.get(module)
        if path is None:
            return
        callers = self._stack
        if not self.in_backward:
            self.calls[path] += 1
            self._callers[path] = callers
        elif not self._outer:
            # The checkpoint calls it now; it belongs where it was called in the forward pass.
            callers = self._callers.get(path, ())
        self._outer.append(self._stack)
        self._change((*callers, path))

    def _leave_module(self, module: nn.Module, _args: Any, _result: Any) -> None:
        if module in self._paths:
            self._change(self._outer.pop())

    def _change(self, stack: Stack) -> None:
        self._stack = stack
        self._note(stack, torch._C._autograd._get_sequence_nr())

    def _note(self, stack: Stack, number: int) -> None:
        self._numbers.append(number)
        self._stacks.append(stack)
