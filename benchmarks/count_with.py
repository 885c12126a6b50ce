"""One count by one tool, alone in its process: FLOPs, seconds, and the most memory it held.

python benchmarks/count_with.py thop gpt2-small math meta

counters.py runs one of these for each of its figures. What is counted is a forward pass of one
sequence of 1024 tokens, without gradients. Each tool is called as its documentation shows, and
its number becomes FLOPs as its documentation defines it: twice, where it counts multiply-adds.
"""

import importlib
import json
import re
import sys
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptbench import flops, presets
from gptbench.config import Attention, ModelConfig, Workload

WORK = Workload(batch_size=1, seq_len=1024)
MEMORY_LIMIT_BYTES = 16 * 2**30  # a tool that wants more fails by itself, and kills nobody else


def ledger(config: ModelConfig, work: Workload) -> float:
    return flops.forward_flops(flops.matmuls(config, work))


def torch_counter(model: Any, tokens: Any) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(tokens)
    return float(counter.get_total_flops())


def fvcore(model: Any, tokens: Any) -> float:
    """'We count one fused multiply-add as one flop' (fvcore/nn/flop_count.py)."""
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, tokens).unsupported_ops_warnings(False)
    return 2 * float(analysis.uncalled_modules_warnings(False).tracer_warnings("none").total())


def ptflops(backend: str) -> Callable[[Any, Any], float]:
    """'The theoretical amount of multiply-add operations' (README), by either of its backends."""

    def count(model: Any, tokens: Any) -> float:
        from ptflops import get_model_complexity_info

        macs, _ = get_model_complexity_info(
            model,
            tuple(tokens.shape),
            input_constructor=lambda _shape: tokens,
            as_strings=False,
            print_per_layer_stat=False,
            backend=backend,
        )
        return 2 * float(macs)

    return count


def thop(model: Any, tokens: Any) -> float:
    """'macs, params = profile(model, inputs=(input, ))' (README)."""
    from thop import profile

    macs, _ = profile(model, inputs=(tokens,), verbose=False)
    return 2 * float(macs)


def calflops(model: Any, tokens: Any) -> float:
    """'flops, macs, params = calculate_flops(...)' (README): FLOPs already."""
    from calflops import calculate_flops

    counted, _, _ = calculate_flops(
        model, args=[tokens], print_results=False, output_as_string=False
    )
    return float(counted)


def torchinfo(model: Any, tokens: Any) -> float:
    """'Total mult-adds' (README)."""
    from torchinfo import summary

    return 2 * float(summary(model, input_data=tokens, verbose=0).total_mult_adds)


@dataclass(frozen=True)
class Tool:
    """`tensors` is where it counts without weights if it can; None: it needs no model at all."""

    package: str
    count: Callable[[Any, Any], float]
    tensors: str | None = "meta"


TOOLS = {
    "gptbench": Tool("gptbench", ledger, None),
    "PyTorch FlopCounterMode": Tool("torch", torch_counter),
    "fvcore": Tool("fvcore", fvcore),
    "ptflops, aten": Tool("ptflops", ptflops("aten")),
    # On the meta device this one counts the layers' products twice.
    "ptflops, default": Tool("ptflops", ptflops("pytorch"), "cpu"),
    "calflops": Tool("calflops", calflops),
    "thop": Tool("thop", thop),
    "torchinfo": Tool("torchinfo", torchinfo),
}


def built(config: ModelConfig, attention: str, tensors: str) -> tuple[Any, Any]:
    """A model and its tokens: gptbench's for 'math' and 'fused', else transformers'."""
    import torch

    from gptbench.worker import memory_limit
    from gptbench.worker.model import GPT

    memory_limit.limit(torch.device("cpu"), MEMORY_LIMIT_BYTES)
    torch.set_grad_enabled(False)
    with torch.device(tensors):
        tokens = torch.zeros(WORK.batch_size, WORK.seq_len, dtype=torch.long)
        ours = attention in typing.get_args(Attention)
        make: Callable[[ModelConfig, Any], Any] = GPT if ours else transformers_gpt2
        return make(config, attention).eval(), tokens


def transformers_gpt2(config: ModelConfig, attention: str) -> Any:
    """transformers' GPT-2 in the same shape, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(
            n_layer=config.n_layers,
            n_embd=config.d_model,
            n_head=config.n_heads,
            n_positions=config.n_ctx,
            vocab_size=config.vocab_size,
            attn_pdrop=0.0,
            embd_pdrop=0.0,
            resid_pdrop=0.0,
            attn_implementation=attention,
            use_cache=False,
        )
    )


def peak_bytes() -> int:
    """This process's own; getrusage's ru_maxrss would hold its parent's from before the exec."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    return 1024 * int(peak[1])


def main() -> None:
    name, model, attention, tensors = sys.argv[1:]
    tool, config = TOOLS[name], presets.load(model)
    importlib.import_module(tool.package)  # the count is timed without the import
    subject = (config, WORK) if tool.tensors is None else built(config, attention, tensors)
    began = time.perf_counter()
    counted = tool.count(*subject)
    seconds = time.perf_counter() - began
    print(json.dumps({"flops": counted, "count_s": seconds, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
