"""What autograd keeps of a model and what a step holds at each moment, seen on tensors without numbers.

On fake tensors (torch's FakeTensorMode) the project's own step runs with shapes and no data, so that
a model of any size says in seconds which storages it allocates, saves and frees. It is the witness
that the byte ledger is held to.
"""

import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptbench.config import ModelConfig, Workload
from gptbench.worker import step
from gptbench.worker.model import GPT, KVCache, next_token_loss
from gptbench.worker.modules import RunningModules


@dataclass(frozen=True, slots=True)
class Saved:
    """One storage that autograd keeps, and the module that was running when it was saved first."""

    module: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int


def saved(config: ModelConfig, work: Workload, fake: bool = True) -> tuple[Saved, ...]:
    """Every storage that one forward pass and its loss save, once; parameters and tokens left out."""
    with FakeTensorMode() if fake else nullcontext():
        model = step.stored(config, work)
        tokens = torch.zeros(work.batch_size, work.seq_len + 1, dtype=torch.long)
        watch = Watch(model, (tokens,))
        with watch, step.casting(work, torch.device("cpu")):
            loss = next_token_loss(model(tokens[:, :-1], work.seq_lens), tokens[:, 1:])
        del loss
    return tuple(watch.found.values())


class Watch:
    """Hooks on what autograd saves, and on which module is running: `found`, by storage.

    Parameters and inputs are left out.
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor]) -> None:
        known = (*model.parameters(), *inputs)
        self.found: dict[int, Saved] = {}
        self._keep: list[Tensor] = []
        self._known = {t.untyped_storage()._cdata for t in known}
        self._running = RunningModules({m: name for name, m in model.named_modules()})
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._save, lambda t: t)

    def __enter__(self) -> Self:
        self._running.__enter__()
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)
        self._running.__exit__(*error)

    def _save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known and key not in self.found:
            stack = self._running.of_operator(recomputed=False)
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.found[key] = Saved(
                stack[-1] if stack else "", tuple(tensor.shape), dtype, storage.nbytes()
            )
            self._keep.append(tensor)  # an address that is freed could be given out again
        return tensor


class Allocations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all storages alive that operators made while this was entered, and the most of them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self.peak_at = ""
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "aten":
            # In inference mode an operator that is made of others comes whole.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        if self.live_bytes > self.peak_bytes and not _in_place_otherwise(func, args):
            self.peak_bytes, self.peak_at = self.live_bytes, str(func)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage._cdata)
        weakref.finalize(storage, self._free, storage._cdata, size)
        self.live_bytes += size

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live_bytes -= size


def _in_place_otherwise(func: Any, args: Any) -> bool:
    """Whether an operator is autograd's sum of two gradients of one tensor, and needs no memory.

    While operators are watched it makes a new tensor; otherwise it adds into the older one where
    that is no view of another (can_accumulate_inplace in torch/csrc/autograd/input_buffer.cpp).
    """
    in_backward = torch._C._current_autograd_node() is not None and not torch.is_grad_enabled()
    return in_backward and func is torch.ops.aten.add.Tensor and not args[0]._is_view()


def step_peak(config: ModelConfig, work: Workload) -> tuple[int, str]:
    """(bytes at the peak of a second step, the operator that reached it), on fake tensors."""
    with FakeTensorMode(), Allocations() as allocations:
        run, tokens = _step(config, work)
        run(tokens)
        allocations.peak_bytes = 0
        run(tokens)
    return allocations.peak_bytes, allocations.peak_at


def _step(config: ModelConfig, work: Workload) -> tuple[step.Step, Tensor]:
    """What a workload runs again and again, and the tokens it reads."""
    model, device = step.stored(config, work), torch.device("cpu")
    if work.mode in ("prefill", "decode"):
        tokens = torch.zeros(work.batch_size, work.queries, dtype=torch.long)
        return _reading(model.eval(), work), tokens
    tokens = torch.zeros(work.grad_accum * work.batch_size, work.seq_len + 1, dtype=torch.long)
    if work.mode == "forward":
        return step.forward_step(model.eval(), work, device), tokens
    return step.training_step(model.train(), work, device), tokens


def _reading(model: GPT, work: Workload) -> step.Step:
    """One pass that fills a cache, or reads a token against a full one."""
    like = torch.empty(0, dtype=getattr(torch, work.dtype))
    cache = KVCache(model.config, work.batch_size, work.seq_len, like)

    @torch.inference_mode()
    def read(tokens: Tensor) -> Tensor:
        cache.length = work.seq_len - work.queries
        with step.casting(work, torch.device("cpu")):
            logits: Tensor = model(tokens, work.seq_lens, cache)
        return logits

    return read
