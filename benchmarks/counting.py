"""What counting costs: every preset as a table, and ten thousand architectures through Python.

python benchmarks/counting.py
"""

import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path

from gptbench import flops
from gptbench.config import ModelConfig, Workload

PRESETS = [str(Path(sys.executable).parent / "gptbench"), "presets"]
TOTAL = 10_000
ROUNDS = 11


def table_s() -> float:
    """Seconds of a fresh process that counts every preset and prints the table."""
    began = time.perf_counter()
    subprocess.run(PRESETS, check=True, capture_output=True)
    return time.perf_counter() - began


def configs_s() -> float:
    """Seconds of making TOTAL different configs and counting parameters and FLOPs of each."""
    shapes = itertools.islice(
        itertools.product(range(1, 51), range(1, 21), range(1, 11)), TOTAL
    )  # fmt: skip
    work = Workload(batch_size=8, seq_len=1024)
    began = time.perf_counter()
    for layers, heads, share in shapes:
        model = ModelConfig(
            name="any",
            n_layers=layers,
            d_model=64 * heads * share,
            n_heads=heads * share,
            n_kv_heads=heads,
            n_ctx=1024,
            vocab_size=50257,
            gated=True,
        )
        flops.step_flops(model, work)
        flops.parameters(model)
    return time.perf_counter() - began


def main() -> None:
    tables = [table_s() for _ in range(ROUNDS)]
    counts = [configs_s() for _ in range(ROUNDS)]
    print(f"gptbench presets           {statistics.median(tables):.3f} s, to be under 0.25")
    print(f"{TOTAL:,} architectures       {statistics.median(counts):.3f} s, to be under 1")


if __name__ == "__main__":
    main()
