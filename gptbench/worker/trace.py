"""Traces someone's own module: builds it on the meta device, runs a step, counts every operator.

Tensors on the meta device have shapes and no numbers, so that nothing is allocated and a model of
any size is traced in seconds. The backward is a real one, so that frozen parameters and adapters
cost what they cost: no product for the gradient of a frozen matrix, none for gradients in front of
the first tensor that is trained.

The step ends in the model's outputs. Where some of them have no dimensions, those are the loss and
nothing else is differentiated; otherwise every output that needs a gradient is, each with a
gradient of its own shape, which costs the same as a loss that reads them all element by element.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gptbench.errors import QuestionError
from gptbench.inputs import Input
from gptbench.record import Traced, TracedModule, TracedOperator, TraceTask, Uncounted
from gptbench.worker import factory
from gptbench.worker.counter import PASSES, OperatorCounter, Pass
from gptbench.worker.measure import Progress
from gptbench.worker.modules import RunningModules

FORWARD_HINT = (
    " On the meta device tensors have no numbers, so that a forward that reads one cannot be "
    "traced, nor one that takes in tensors of another device."
)

FILLED_IN = (
    "The model of transformers was given a whole attention mask and positions, which it would "
    "compute from numbers, and no cache."
)


def trace(task: TraceTask, progress: Progress) -> Traced:
    """What a step of the task's module costs. Raises QuestionError for what it gets wrong."""
    progress(f"tracing {task.target}", 0.0)
    with torch.device("meta"):
        model, notes = prepare(factory.load(task.target))
        model.train(task.mode == "train")
        modules = RunningModules({module: path for path, module in model.named_modules()})
        with as_written(), modules, OperatorCounter(modules) as counter:
            notes += run(model, task, modules)
    return _answer(task, model, counter, modules, notes)


def run(model: nn.Module, task: TraceTask, modules: RunningModules) -> list[str]:
    """One step on tensors of the task's shapes; sentences about what it did not do."""
    args, kwargs = arguments(model, task)
    shapes = ", ".join(map(str, task.inputs))
    train = task.mode == "train"
    with torch.set_grad_enabled(train), factory.told(f"forward({shapes})", FORWARD_HINT):
        result = model(*args, **kwargs)
    if not train:
        return []
    ends = [t for t in tensors(result) if t.requires_grad]
    if not ends:
        frozen = not any(p.requires_grad for p in model.parameters())
        why = "no parameter is trained" if frozen else "none of its outputs needs a gradient"
        return [f"There is no backward: {why}."]
    ends = [t for t in ends if t.dim() == 0] or ends
    with modules.backward_pass(), factory.told("backward", FORWARD_HINT):
        torch.autograd.backward(ends, [torch.ones_like(t) for t in ends])
    return []


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor of what a model returned: of tuples, dicts and dataclasses, at any depth."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


# -- what goes in -----------------------------------------------------------------------------


_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


def arguments(model: nn.Module, task: TraceTask) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The tensors of the task, on the meta device.

    Raises QuestionError where the model's forward takes no such argument, or needs another.
    """
    args = [_tensor(given) for given in task.inputs if not given.name]
    kwargs = {given.name: _tensor(given) for given in task.inputs if given.name}
    signature = inspect.signature(model.forward)
    taken = signature.parameters.values()
    names = [p.name for p in taken if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    anything = any(p.kind is p.VAR_KEYWORD for p in taken)
    if args and task.inputs and not any(p.kind in _POSITIONAL for p in taken):
        # Every argument has to be named: the first shape is that of the first of them.
        kwargs = {names[0]: args.pop(0), **kwargs} if names else kwargs
    if args and names and names[0] in kwargs:
        raise QuestionError(
            f"--input-shape and --input {names[0]}=... both give {names[0]!r} to the forward of "
            f"'{task.target}'. Leave one of them out."
        )
    unknown = [] if anything else [name for name in kwargs if name not in names]
    if unknown:
        raise QuestionError(
            f"the forward of '{task.target}' has no argument {unknown[0]!r}. "
            f"It takes: {', '.join(names)}."
        )
    needed = [p.name for p in taken if p.default is p.empty and p.name in names][len(args) :]
    missing = [name for name in needed if name not in kwargs]
    if missing:
        raise QuestionError(
            f"the forward of '{task.target}' needs {missing[0]!r} too. "
            f"Type --input {missing[0]}=SHAPE, or SHAPE:TYPE."
        )
    return args, kwargs


def _tensor(given: Input) -> Tensor:
    return torch.empty(given.shape, dtype=getattr(torch, given.dtype), device="meta")


# -- the model --------------------------------------------------------------------------------


def prepare(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """The model as it can be traced, and sentences about what had to be done to it."""
    notes: list[str] = []
    model, was_compiled = uncompiled(model)
    if was_compiled:
        notes.append("What torch.compile compiles was traced as it is written.")
    to_meta(model)
    for module in model.modules():
        if _is_of_transformers(module):
            module.register_forward_pre_hook(partial(_fill_in, notes), with_kwargs=True)
    return model, notes


def uncompiled(model: nn.Module) -> tuple[nn.Module, bool]:
    """The model without torch.compile's wrappers, in place; whether there were any."""
    found = False
    while isinstance(original := getattr(model, "_orig_mod", None), nn.Module):
        model, found = original, True
    for module in model.modules():
        for name, child in list(module.named_children()):
            original, compiled = uncompiled(child)
            if compiled:
                setattr(module, name, original)
            found |= compiled
        if module._compiled_call_impl is not None:  # Module.compile(), in place
            module._compiled_call_impl = None
            found = True
    return model, found


@contextmanager
def as_written() -> Iterator[None]:
    """Runs functions under @torch.compile as they are written, where anybody loaded a compiler."""
    loaded = "torch._dynamo" in sys.modules
    with torch.compiler.set_stance("force_eager") if loaded else nullcontext():
        yield


def to_meta(model: nn.Module) -> None:
    """Move what the factory made on a real device to the meta device; tied tensors stay tied."""
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        both: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for own in both:
            for name, tensor in own.items():
                if tensor is not None and not tensor.is_meta:
                    own[name] = moved.setdefault(id(tensor), _on_meta(tensor))


def _on_meta(tensor: Tensor) -> Tensor:
    bare = tensor.detach().to("meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(bare, requires_grad=tensor.requires_grad)
    return bare


def _is_of_transformers(module: nn.Module) -> bool:
    """By name, so that nobody has to import transformers to find out that there is none."""
    return any(
        base.__name__ == "PreTrainedModel" and base.__module__.startswith("transformers.")
        for base in type(module).__mro__
    )


def _fill_in(
    notes: list[str], module: nn.Module, args: Any, kwargs: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Give a model of transformers what it would otherwise compute from numbers; note that.

    Positions [1, T], and a mask [B, 1, T, T] of the weights' type, which every kind of attention
    takes as it is; a cache would only keep keys and values that nobody reads.
    """
    taken = list(inspect.signature(module.forward).parameters)
    given = dict(zip(taken, args, strict=False)) | kwargs
    extra: dict[str, Any] = {"use_cache": False}
    ids = next((given[k] for k in ("input_ids", "inputs_embeds") if given.get(k) is not None), None)
    if ids is not None and "position_ids" in taken:
        batch, length = ids.shape[:2]
        dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
        extra["position_ids"] = torch.empty(1, length, dtype=torch.long, device="meta")
        extra["attention_mask"] = torch.empty(batch, 1, length, length, dtype=dtype, device="meta")
    open_to = taken[len(args) :]
    missing = {k: v for k, v in extra.items() if k in open_to and given.get(k) is None}
    if "attention_mask" in missing and FILLED_IN not in notes:
        notes.append(FILLED_IN)
    return args, {**kwargs, **missing}


# -- what comes out ---------------------------------------------------------------------------


def _answer(
    task: TraceTask,
    model: nn.Module,
    counter: OperatorCounter,
    modules: RunningModules,
    notes: list[str],
) -> Traced:
    first = task.inputs[0]
    is_ids = not getattr(torch, first.dtype).is_floating_point
    unique = list(model.parameters())
    return Traced(
        target=task.target,
        mode=task.mode,
        inputs=task.inputs,
        tokens=_tensor(first).numel() if is_ids else None,
        parameters=sum(p.numel() for p in unique),
        trainable=sum(p.numel() for p in unique if p.requires_grad),
        modules=tuple(_modules(model, counter, modules)),
        operators=tuple(_operators(counter)),
        uncounted=tuple(
            Uncounted(operator=name, calls=where.total(), modules=tuple(where))
            for name, where in counter.uncounted.items()
        ),
        notes=tuple(notes),
    )


def _modules(
    model: nn.Module, counter: OperatorCounter, modules: RunningModules
) -> Iterator[TracedModule]:
    parameters = owned(model)
    flops = {
        direction: inclusive(model, modules.calls, counter.by_module, direction)
        for direction in PASSES
    }
    for path, module in model.named_modules():
        yield TracedModule(
            path=path,
            class_name=type(module).__name__,
            calls=modules.calls[path],
            parameters=parameters.get(path, 0),
            **{direction: flops[direction][path] for direction in PASSES},
        )


def inclusive(
    model: nn.Module,
    calls: Mapping[str, int],
    charged: Mapping[tuple[str, Pass], int],
    direction: Pass,
) -> dict[str, int]:
    """FLOPs of each module with everything beneath it, by path.

    A module that ran was charged with what ran within. One that only holds others, such as a
    ModuleList, never runs: it has what they have.
    """
    flops: dict[str, int] = {}
    held: dict[str, int] = {}
    for path in reversed([path for path, _ in model.named_modules()]):
        ran = calls[path] or not path
        flops[path] = charged[path, direction] if ran else held.get(path, 0)
        holder = path.rpartition(".")[0]
        held[holder] = held.get(holder, 0) + flops[path]
    return flops


def owned(model: nn.Module) -> dict[str, int]:
    """Parameters in and beneath each module, by path; a shared one counts where it is first met."""
    sizes: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")[:-1]
        for depth in range(len(parts) + 1):
            path = ".".join(parts[:depth])
            sizes[path] = sizes.get(path, 0) + parameter.numel()
    return sizes


def _operators(counter: OperatorCounter) -> Iterator[TracedOperator]:
    for name, calls in counter.calls.most_common():
        yield TracedOperator(
            operator=name,
            calls=calls,
            forward=counter.by_operator[name, "forward"],
            backward=counter.by_operator[name, "backward"],
            recompute=counter.by_operator[name, "recompute"],
        )
