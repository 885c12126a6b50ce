"""gptbench beside six FLOP counters: what they count, how long they take, what memory they hold.

python benchmarks/counters.py [MODEL ...]

Each figure is of a fresh process (count_with.py), one at a time. The tools come with
pip install -c constraints.txt '.[peers]'; the rows of those that are not there are left out.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from count_with import TOOLS, WORK, ledger

from gptbench import presets
from gptbench.config import ModelConfig
from gptbench.report.table import DASH, Cell, Column, Quantity, Table, count, known
from gptbench.report.text import console, show
from gptbench.units import gib, seconds, si

COUNT_WITH = str(Path(__file__).with_name("count_with.py"))
INSTALL = "pip install -c constraints.txt '.[peers]'"
TIME_LIMIT_S = 600
# Who wrote the model, and how it does attention: the cases in which the tools differ.
MODELS = {
    "math": "written out",
    "fused": "fused",
    "eager": "HF eager",
    "sdpa": "HF sdpa",
}

# Lines of their own, so that none is wrapped.
WHY = (
    "A CPU's fused attention is nothing to any of them; on meta tensors PyTorch's counter and",
    "ptflops' aten see it. ptflops' default and calflops see torch.matmul, which transformers",
    "writes, but not q @ k; thop sees neither. To thop transformers' Conv1D is no work, and to",
    "torchinfo a convolution; a Linear's work to torchinfo is its weights, however many tokens.",
    "Differences below 0.2% are norms (fvcore, thop), biases (aten) and other elementwise work.",
)


@dataclass(frozen=True)
class Answer:
    """What one process found; where it failed, `reason` says why and the rest is unknown."""

    process_s: float
    flops: float | None = None
    count_s: float | None = None
    peak_bytes: float | None = None
    reason: str = ""


def ask(tool: str, model: str, attention: str, tensors: str) -> Answer:
    command = [sys.executable, COUNT_WITH, tool, model, attention, tensors]
    began = time.perf_counter()
    with console(stderr=True).status(f"{tool} counts {model}, {attention}, {tensors}"):
        try:
            child = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=TIME_LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return Answer(TIME_LIMIT_S, reason=f"not done after {TIME_LIMIT_S} s")
    process_s = time.perf_counter() - began
    if child.returncode:
        last_words = child.stderr.strip().splitlines() or [f"it ended with {child.returncode}"]
        return Answer(process_s, reason=last_words[-1])
    return Answer(process_s, **json.loads(child.stdout.splitlines()[-1]))


def error(counted: float, exact: float) -> str:
    return "exact" if counted == exact else f"{counted / exact - 1:+.2%}"


def costs(config: ModelConfig, tools: list[str]) -> Table:
    """Each tool on gptbench's model, attention written out: where most of them see the most."""
    exact = ledger(config, WORK)
    rows: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    for name in tools:
        tensors = TOOLS[name].tensors or "none"
        answer = ask(name, config.name, "math", tensors)
        rows.append(
            (
                name,
                tensors,
                DASH if answer.flops is None else count(round(answer.flops)),
                known(answer.flops, lambda counted: error(counted, exact)),
                known(answer.count_s, seconds),
                Quantity(answer.process_s, seconds(answer.process_s)),
                known(answer.peak_bytes, gib),
            )
        )
        notes += [f"{name} failed: {answer.reason}."] if answer.reason else []
    columns = ("FLOPs", "error", "count", "process", "peak memory")
    return Table(
        f"{config.name}, forward, 1 × 1024 tokens: {exact:,} FLOPs",
        (Column("tool"), Column("tensors"), *(Column(name, right=True) for name in columns)),
        tuple(rows),
        tuple(notes),
    )


def differences(config: ModelConfig, tools: list[str], models: dict[str, str]) -> Table:
    """What each tool makes of the same mathematics written in different ways, on CPU tensors."""
    exact = ledger(config, WORK)
    rows: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    for name in tools:
        cells: list[Cell] = [name]
        for attention, label in models.items():
            answer = ask(name, config.name, attention, "cpu")
            cells.append(
                known(answer.flops, lambda counted: f"{si(counted)} {error(counted, exact):>7s}")
            )
            notes += [f"{name} failed, {label}: {answer.reason}."] if answer.reason else []
        rows.append(tuple(cells))
    return Table(
        f"{config.name} on CPU tensors: attention written out and fused, and transformers' (HF)",
        (Column("tool"), *(Column(label, right=True) for label in models.values())),
        tuple(rows),
        (*notes, *WHY),
    )


def there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["gpt2-small", "gpt2-xl"], metavar="MODEL")
    configs = [presets.load(model) for model in parser.parse_args().models]
    tools = [name for name, tool in TOOLS.items() if there(tool.package)]
    packages = dict.fromkeys((*(tool.package for tool in TOOLS.values()), "transformers"))
    missing = [package for package in packages if not there(package)]
    if missing:
        print(f"Not installed: {', '.join(missing)}. Type {INSTALL}", file=sys.stderr)
    for config in configs:
        show(costs(config, tools), console())
    models = {a: m for a, m in MODELS.items() if there("transformers") or a in ("math", "fused")}
    counters = [name for name in tools if TOOLS[name].tensors is not None]
    show(differences(configs[0], counters, models), console())


if __name__ == "__main__":
    main()
