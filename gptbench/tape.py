"""Autograd by arithmetic: which tensors an operation makes, which it keeps, when they are freed.

A tape is what a part of a model does, operation by operation, with sizes in place of numbers. A
tensor that an operation makes lives until the last operation that reads it; one that is kept for
the backward pass lives until the backward of every operation that keeps it has run. Views share the
storage of what they are views of, and a storage counts once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """`shape` numbers of `size` bytes each; `base` is the tensor whose storage a view shares."""

    shape: tuple[int, ...]
    size: int
    base: "Tensor | None" = None
    shared: bool = False  # with other parts of the model: it belongs to none of them

    @property
    def numbers(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.numbers * self.size

    @property
    def storage(self) -> "Tensor":
        return self if self.base is None else self.base

    def view(self, *shape: int) -> "Tensor":
        """The same storage, or a part of it, in another shape."""
        return Tensor(shape, self.size, self.storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation, and what its backward does.

    The gradients of `differentiated` inputs are allocated; to `passed` ones the output's gradient
    is handed as it is. `kept` are the tensors that the backward needs, under their rows' names.
    `weight_bytes` of gradients stay; scratch is there only while the operation runs.
    """

    outputs: tuple[Tensor, ...]
    reads: tuple[Tensor, ...] = ()
    differentiated: tuple[Tensor, ...] = ()
    passed: tuple[Tensor, ...] = ()
    kept: tuple[tuple[str, Tensor], ...] = ()
    weight_bytes: int = 0
    scratch_forward_bytes: int = 0
    scratch_backward_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """One storage that autograd keeps: a row of the byte ledger."""

    name: str
    shape: tuple[int, ...]
    size: int

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * self.size

    @property
    def is_cast(self) -> bool:
        """Whether it is a weight in another number format."""
        return self.name.endswith("weight, cast")

    @property
    def of_loss(self) -> bool:
        return self.name.startswith("loss.")


@dataclass(slots=True)
class Tape:
    """Operations in the order in which the forward pass runs them."""

    operations: list[Operation] = field(default_factory=list)

    def add(self, operation: Operation) -> Tensor:
        """Record an operation; give back its first output."""
        self.operations.append(operation)
        return operation.outputs[0]

    def read(self, *tensors: Tensor) -> None:
        """Say that a variable still names these tensors."""
        self.operations.append(Operation(outputs=(), reads=tensors))

    def storages(self) -> dict[Tensor, str]:
        """What is kept for the backward pass, each storage once, under the name it got first."""
        found: dict[Tensor, str] = {}
        for operation in self.operations:
            for name, tensor in operation.kept:
                found.setdefault(tensor.storage, name)
        return found

    def kept(self) -> tuple[Kept, ...]:
        """The same as rows, without what other parts of the model share."""
        return tuple(Kept(n, t.shape, t.size) for t, n in self.storages().items() if not t.shared)

    @property
    def kept_bytes(self) -> int:
        return sum(row.size_bytes for row in self.kept())

    @property
    def weight_bytes(self) -> int:
        return sum(operation.weight_bytes for operation in self.operations)

    def forward_peak_bytes(self, keeping: bool) -> int:
        """The most that is alive during the forward pass, with or without what autograd keeps."""
        last_read = _last_reads(self.operations)
        kept = self.storages() if keeping else {}
        live: dict[Tensor, int] = {}
        peak = 0
        for number, operation in enumerate(self.operations):
            held = [*operation.reads, *operation.outputs]
            held += [t for _, t in operation.kept if keeping]
            live |= {t.storage: t.storage.size_bytes for t in held if not t.storage.shared}
            peak = max(peak, sum(live.values()) + operation.scratch_forward_bytes)
            for tensor in [t for t in live if last_read.get(t, -1) <= number and t not in kept]:
                del live[tensor]
        return peak

    def backward_peak_bytes(self, accumulating: bool = False) -> int:
        """The most that is alive during the backward pass: kept tensors and gradients.

        Gradients of weights stay, and add up; where they are `accumulating` into older ones, each
        is there only until it has been added.
        """
        backward = _Backward(self)
        peak = 0
        for operation in reversed(self.operations):
            if operation.outputs:
                peak = max(peak, backward.run(operation))
                backward.weights += 0 if accumulating else operation.weight_bytes
        return peak


def _last_reads(operations: Iterable[Operation]) -> dict[Tensor, int]:
    """{storage: number of the last operation that reads or makes it}."""
    return {
        tensor.storage: number
        for number, operation in enumerate(operations)
        for tensor in (*operation.reads, *operation.outputs)
    }


class _Backward:
    """What is alive while the backward pass goes down a tape."""

    def __init__(self, tape: Tape) -> None:
        self.weights = 0
        self._gradients: dict[Tensor, Tensor] = {}
        self._keepers: dict[Tensor, int] = {}
        for operation in tape.operations:
            for tensor in _storages_of(operation):
                self._keepers[tensor] = self._keepers.get(tensor, 0) + 1
        *_, last = (o for o in tape.operations if o.outputs)
        self._gradients |= {t: t for t in last.outputs}

    def run(self, operation: Operation) -> int:
        """Run the backward of an operation; bytes alive while it runs."""
        incoming = [self._gradients[t] for t in operation.outputs if t in self._gradients]
        made = {t: Tensor(t.shape, t.size) for t in operation.differentiated}
        alive = {*self._gradients.values(), *made.values()}
        now = self.weights + operation.weight_bytes + operation.scratch_backward_bytes
        now += sum(t.size_bytes for t in (*alive, *self._keepers) if not t.shared)
        for tensor in operation.outputs:
            self._gradients.pop(tensor, None)
        # A second gradient of a tensor is added into the first.
        for tensor in (*operation.passed, *made):
            self._gradients.setdefault(tensor, made.get(tensor) or incoming[0])
        self._release(operation)
        return now

    def _release(self, operation: Operation) -> None:
        for tensor in _storages_of(operation):
            self._keepers[tensor] -= 1
            if not self._keepers[tensor]:
                del self._keepers[tensor]


def _storages_of(operation: Operation) -> set[Tensor]:
    return {tensor.storage for _, tensor in operation.kept}
