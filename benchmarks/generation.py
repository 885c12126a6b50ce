"""Generation with a cache beside without one, in turns.

python benchmarks/generation.py [--model scratchgpt] [--layers 2] [--tokens 256] [--rounds 4]
"""

import argparse
import sys
from dataclasses import replace

import torch
from turns import in_turns

from gptbench import presets
from gptbench.config import ModelConfig
from gptbench.generation import Sampling
from gptbench.worker import continuation, onednn
from gptbench.worker.continuation import Continuation
from gptbench.worker.model import GPT

TIMES = 5.0


def write(model: GPT, tokens: int, *, keep: bool) -> list[int]:
    """So many tokens behind a prompt of one."""
    sequence = Continuation(model, [1], tokens, 1)
    for _ in continuation.steps(model, [sequence], Sampling(), keep=keep):
        pass
    return sequence.ids


def random_model(config: ModelConfig, context: int) -> GPT:
    """Random weights: what a token costs does not depend on them. Room for the whole text."""
    torch.manual_seed(1)
    rows = {"position_rows": context} if config.positions == "learned" else {}
    model = GPT(replace(config, n_ctx=context, **rows)).eval()
    onednn.reading(model)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="scratchgpt")
    parser.add_argument("--layers", type=int, help="as many of its layers (default: all)")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    config = presets.load(asked.model)
    config = replace(config, n_layers=asked.layers or config.n_layers)
    model = random_model(config, max(config.n_ctx, asked.tokens + 1))
    # Of both ways, short: what is made once is made before anything is timed.
    for keep in (True, False):
        write(model, 2, keep=keep)
    written: set[tuple[int, ...]] = set()
    ratio = in_turns(
        lambda: written.add(tuple(write(model, asked.tokens, keep=False))),
        lambda: written.add(tuple(write(model, asked.tokens, keep=True))),
        asked.rounds,
    )
    print(
        f"{config.name}, {config.n_layers} layers, {asked.tokens} tokens behind 1, float32, "
        f"on {torch.get_num_threads()} threads of a CPU, random weights"
    )
    print(f"without a cache {asked.tokens / ratio.a_s:8.1f} tokens/s")
    print(f"with a cache    {asked.tokens / ratio.b_s:8.1f} tokens/s")
    print(
        f"with a cache {1 / ratio.median:.2f} times as fast "
        f"[{1 / ratio.high:.2f}, {1 / ratio.low:.2f}], to be at least {TIMES:g}; "
        f"{'the same tokens' if len(written) == 1 else 'OTHER tokens'} "
        f"({2 * asked.rounds} texts each)"
    )
    return 0 if len(written) == 1 and 1 / ratio.median >= TIMES else 1


if __name__ == "__main__":
    sys.exit(main())
