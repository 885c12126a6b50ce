"""Which numbers an integer input may have: as many as the table has rows that it is looked up in.

Seen while the module runs, by the memory that a table's indices share with an input: so the table
of tokens is not taken for the one of positions, in whatever order a module names them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


class Lookups(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`rows` has the rows of the smallest table that each input was looked up in, by its place.

    Classes that a loss is given are looked up too, among the columns of the logits.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: dict[int, int] = {}
        self._places = {_storage(t): i for i, t in enumerate(inputs)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = getattr(func, "overloadpacket", None)
        if packet in (_aten.embedding, _aten._embedding_bag):
            self._note(args[1], args[0].shape[0])
        elif packet is _aten.index:
            for size, indices in zip(args[0].shape, args[1], strict=False):
                self._note(indices, size)
        elif packet in (_aten.nll_loss_forward, _aten.nll_loss2d_forward):
            self._note(args[1], args[0].shape[1])
        return func(*args, **(kwargs or {}))

    def _note(self, indices: Tensor | None, rows: int) -> None:
        place = None if indices is None else self._places.get(_storage(indices))
        if place is not None:
            self.rows[place] = min(rows, self.rows.get(place, rows))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
