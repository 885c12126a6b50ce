"""A worker whose step is a loop of known length: it speaks as `gptbench.worker hold` does.

process.Worker starts it. It loads no torch, so that a fresh process costs a tenth of a second.
"""

import json
import os
import sys
import time

from gptbench.worker import lifeline


def step(iterations: int) -> int:
    total = 0
    for i in range(iterations):
        total += i & 3
    return total


def visit(iterations: int, steps: int) -> list[int]:
    taken = []
    for _ in range(steps):
        began = time.perf_counter_ns()
        step(iterations)
        taken.append(time.perf_counter_ns() - began)
    return taken


def main() -> None:
    lifeline.hold(int(sys.argv[2]))
    iterations = 0
    for line in sys.stdin:
        task = json.loads(line)["task"]
        if "iterations" in task:
            iterations, body = task["iterations"], {"pid": os.getpid()}
        else:
            body = {"step_ns": visit(iterations, task["steps"])}
        print(json.dumps({"event": "answer", "body": body}), flush=True)


if __name__ == "__main__":
    main()
