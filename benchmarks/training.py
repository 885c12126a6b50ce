"""The model beside transformers' GPT-2, and the harness beside a bare loop, in turns.

python benchmarks/training.py [--model gpt2-small] [--seq-len 1024] [--rounds 5]
"""

import argparse
import time

import torch
import transformers
from count_with import transformers_gpt2
from turns import in_turns, reached

from gptbench import presets
from gptbench.config import ModelConfig, Workload
from gptbench.worker import step, text
from gptbench.worker.clock import HostClock
from gptbench.worker.model import next_token_loss

CPU = torch.device("cpu")

# How many times as fast as transformers' the model is to train.
TO_BE = 1.1


def transformers_step(config: ModelConfig) -> step.Step:
    """The same shape, loss and optimizer around transformers' model, with its fused attention."""
    model = transformers_gpt2(config, "sdpa").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=step.LEARNING_RATE, fused=True)

    def run(tokens: torch.Tensor) -> torch.Tensor:
        loss = next_token_loss(model(tokens[:, :-1]).logits, tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return run


def compare_models(config: ModelConfig, work: Workload, rounds: int) -> str:
    """Prints both rates; whether ours is as fast as it is to be, in a line."""
    batch = text.batches(config, work, None, 1, CPU)[0]
    ours, theirs = step.build(config, work, CPU), transformers_step(config)
    for run in (ours, theirs) * 2:
        run(batch)
    # Two steps a visit: the first finds the heap and the caches as the other model left them.
    ratio = in_turns(lambda: twice(theirs, batch), lambda: twice(ours, batch), rounds)
    print(f"{config.name}, {work.batch_size} × {work.seq_len} tokens, float32, training on the CPU")
    print(f"transformers {transformers.__version__:8s} {2 * work.tokens / ratio.a_s:8.1f} tokens/s")
    print(f"gptbench              {2 * work.tokens / ratio.b_s:8.1f} tokens/s")
    times, low, high = 1 / ratio.median, 1 / ratio.high, 1 / ratio.low
    print(f"gptbench is {times:.3f} times as fast [{low:.3f}, {high:.3f}], to be {TO_BE}\n")
    return f"{TO_BE} times as fast as transformers: {reached(times, TO_BE)}"


def twice(run: step.Step, batch: torch.Tensor) -> None:
    for _ in range(2):
        run(batch)


def compare_harness(rounds: int, steps: int = 8) -> None:
    """What the harness reports against a stopwatch around the same steps."""
    config = presets.load("scratchgpt")
    work = Workload(batch_size=2, seq_len=128)
    tokens = text.batches(config, work, None, 1, CPU)
    run = step.build(config, work, CPU)
    reported: list[float] = []

    def bare() -> None:
        for i in range(steps):
            run(tokens[i % len(tokens)])

    def harness() -> None:
        clock = HostClock()
        clock.start(steps)
        for i in range(steps):
            run(tokens[i % len(tokens)])
            clock.mark()
        reported.append(clock.stop().wall_ns / 1e9)

    bare(), harness()
    reported.clear()
    began = time.perf_counter()
    ratio = in_turns(bare, harness, rounds)
    elapsed = time.perf_counter() - began
    print(f"{config.name}, windows of {steps} steps of {1000 * ratio.a_s / steps:.1f} ms")
    print(
        f"harness over bare loop: {ratio.median:.4f} [{ratio.low:.4f}, {ratio.high:.4f}], "
        f"to be within 2% ({2 * rounds} windows each, {elapsed:.0f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="gpt2-small")
    parser.add_argument("--seq-len", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    work = Workload(batch_size=1, seq_len=options.seq_len)
    verdict = compare_models(presets.load(options.model), work, options.rounds)
    compare_harness(max(12, options.rounds))
    print(verdict)


if __name__ == "__main__":
    main()
