"""Which module an operator works for: in the forward pass, in its recomputation, in the backward.

PyTorch's own tracker asks module hooks for the backward pass, which misplace work where two
modules read one tensor. Here every node of the graph is known by its number: the nodes that were
made while a module ran are that module's.
"""

from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import nn

# Not documented, and the same since torch 2.1: PyTorch's own compiler matches nodes by them.
_current_node = torch._C._current_autograd_node  # noqa: SLF001
_next_number = torch._C._autograd._get_sequence_nr  # noqa: SLF001


class Attribution:
    """Inside of a `with`: the innermost module of a model at work, by name; '' is the model itself.

    Stands in for the tracker of PyTorch's FlopCounterMode, which asks for `parents`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._running: list[str] = []
        self._owner_of_node: dict[int, str] = {}
        self._hooks = ExitStack()

    @property
    def module(self) -> str:
        """The module that runs, or whose node of the graph the backward pass is at."""
        if self._running:
            return self._running[-1]
        node = _current_node()
        number = -1 if node is None else node._sequence_nr()  # noqa: SLF001
        return self._owner_of_node.get(number, "")

    @property
    def parents(self) -> set[str]:
        """The module at work and those that hold it, the model ('') and 'Global' among them."""
        parts = self.module.split(".")
        return {"Global", "", *(".".join(parts[: i + 1]) for i in range(len(parts)))}

    @property
    def is_backward(self) -> bool:
        """Whether the backward pass runs, what it computes again included."""
        return _current_node() is not None

    @property
    def is_recompute(self) -> bool:
        """Whether a module's forward pass runs inside of the backward pass."""
        return self.is_backward and bool(self._running)

    def __enter__(self) -> Self:
        for name, module in self._model.named_modules():
            self._follow(name, module)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _follow(self, name: str, module: nn.Module) -> None:
        first_nodes: list[int] = []

        def begin(_module: nn.Module, _inputs: Any) -> None:
            self._running.append(name)
            first_nodes.append(_next_number())

        def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            self._running.pop()
            # The modules inside have taken theirs already.
            for number in range(first_nodes.pop(), _next_number()):
                self._owner_of_node.setdefault(number, name)

        self._hooks.callback(module.register_forward_pre_hook(begin).remove)
        self._hooks.callback(module.register_forward_hook(end, always_call=True).remove)
