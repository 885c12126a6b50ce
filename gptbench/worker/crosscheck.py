"""Two witnesses for the ledger: PyTorch's FlopCounterMode and fvcore, on the meta device.

Meta tensors have shapes and no numbers, so a model of any size is traced in seconds. Both tools
miss fused attention where it is one kernel (PyTorch's counter on a CPU counts it as nothing,
pytorch#195460; fvcore lists it as unsupported): on the meta device PyTorch takes it apart into the
two products it stands for, and fvcore is told about it here.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch.utils.flop_counter import FlopCounterMode

from gptbench import flops
from gptbench.config import Attention, ModelConfig, Workload
from gptbench.record import Check, CheckTask, OperatorCount
from gptbench.worker.measure import Progress
from gptbench.worker.model import GPT

WAYS: tuple[Attention, ...] = ("math", "fused")

CORE = "attn.scores + attn.values"

# Counts of a component, split by the operator that did the work: {component: {operator: FLOPs}}.
Counts = dict[str, Counter[str]]


def check(task: CheckTask, progress: Progress) -> tuple[Check, ...]:
    """The ledger held to both tools, with attention written out and fused."""
    checks: list[Check] = []
    for attention in WAYS:
        progress(f"tracing {task.model.name}, attention {attention}", 0.0)
        checks += _check(task.model, task.workload, attention)
    return tuple(checks)


def _check(config: ModelConfig, work: Workload, attention: Attention) -> Iterable[Check]:
    with torch.device("meta"):
        model = GPT(config, attention)
        tokens = torch.zeros(work.batch_size, work.seq_len, dtype=torch.long)
    expected = _expected(config, work)
    forward, backward = torch_counts(model, tokens)
    yield _held("PyTorch FlopCounterMode", attention, "forward", forward, expected)
    twice = {name: 2 * count for name, count in expected.items()}
    yield _held("PyTorch FlopCounterMode", attention, "backward", backward, twice)
    yield _held("fvcore", attention, "forward", fvcore_counts(model, tokens), expected)


def torch_counts(model: GPT, tokens: torch.Tensor) -> tuple[Counts, Counts]:
    """Forward and backward FLOPs of a model on the meta device, by PyTorch's counter."""
    with FlopCounterMode(display=False) as counter:
        logits = model(tokens)
        forward = _by_component(_named(counter.get_flop_counts()))
        logits.sum().backward()
    both = _by_component(_named(counter.get_flop_counts()))
    return forward, {name: both[name] - forward.get(name, Counter()) for name in both}


def fvcore_counts(model: GPT, tokens: torch.Tensor) -> Counts:
    """Forward FLOPs by fvcore, which counts multiply-adds: twice what it says, norms left out."""
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(model, tokens)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _fused_attention_macs)
    analysis.set_op_handle("aten::layer_norm", _no_product)
    analysis.unsupported_ops_warnings(False).tracer_warnings("none").uncalled_modules_warnings(
        False
    )
    counts = analysis.by_module_and_operator()
    return _by_component(
        {name: Counter({op: 2 * round(n) for op, n in c.items()}) for name, c in counts.items()}
    )


def _fused_attention_macs(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """q kᵀ and the product with v, in full: what the kernel stands for."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    heads = q[0] * q[1]
    macs = heads * q[2] * k[2] * (q[3] + v[3])
    return Counter({"scaled_dot_product_attention": macs})


def _no_product(_inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """fvcore counts norms with the multiply-adds; model FLOPs leave them out."""
    return Counter()


def _named(counts: dict[str, dict[Any, int]]) -> dict[str, Counter[str]]:
    """PyTorch's keys as plain names: 'GPT.blocks.0.attn.qkv' and 'aten.addmm'."""
    return {
        module.removeprefix("GPT").lstrip("."): Counter({str(op): n for op, n in by_op.items()})
        for module, by_op in counts.items()
        if module != "Global"
    }


def _by_component(modules: dict[str, Counter[str]]) -> Counts:
    """Counts of modules summed over layers under the ledger's names.

    A module's count holds its children's: the attention's own products are what its two linear
    layers leave of it, and what no named module accounts for is shown as 'other'.
    """
    found: Counts = {}
    for path, operators in modules.items():
        name = _component(path)
        if name is not None:
            found[name] = found.get(name, Counter()) + operators
    linear = found.get("attn.qkv", Counter()) + found.get("attn.out", Counter())
    found[CORE] = found.get(CORE, Counter()) - linear
    other = modules.get("", Counter()) - sum(found.values(), Counter[str]())
    return found | ({"other": other} if other.total() else {})


def _component(path: str) -> str | None:
    parts = path.split(".")
    if parts == ["unembed"]:
        return "unembed"
    if len(parts) == 3 and parts[0] == "blocks" and parts[2] == "attn":
        return CORE
    if len(parts) == 4 and parts[3] in ("qkv", "out", "up", "down"):
        return ".".join(parts[2:])
    return None


def _expected(config: ModelConfig, work: Workload) -> dict[str, int]:
    expected: dict[str, int] = {}
    for row in flops.matmuls(config, work):
        name = CORE if row.name in flops.ATTENTION_CORE else row.name
        expected[name] = expected.get(name, 0) + row.flops
    return expected


def _held(
    tool: str, attention: str, direction: Any, counts: Counts, expected: dict[str, int]
) -> Check:
    names = dict.fromkeys((*expected, *counts))
    return Check(
        tool=tool,
        attention=attention,
        direction=direction,
        flops=sum(c.total() for c in counts.values()),
        expected=sum(expected.values()),
        operators=tuple(
            OperatorCount(
                operator=f"{name} ({', '.join(counts.get(name, ())) or 'not counted'})",
                flops=counts.get(name, Counter()).total(),
                expected=expected.get(name, 0),
            )
            for name in names
        ),
    )
