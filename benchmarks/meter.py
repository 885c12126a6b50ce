"""What MFUMeter costs a training loop: `step` beside an empty loop, a reading, and what it keeps.

python benchmarks/meter.py
"""

import statistics
import time
import tracemalloc

from turns import in_turns

from gptbench.meter import WINDOW, MFUMeter

STEPS = 20_000
ROUNDS = 31
MILLION = 1_000_000
TOKENS = 8 * 1024


def made() -> MFUMeter:
    return MFUMeter("gpt2-small", device="NVIDIA A100-SXM4-80GB", dtype="bfloat16", seq_len=1024)


def empty() -> None:
    for _ in range(STEPS):
        pass


def metered(meter: MFUMeter) -> None:
    for _ in range(STEPS):
        meter.step(TOKENS)


def growth_bytes(steps: int) -> int:
    """Bytes that a meter holds more after so many steps than when its window was full."""
    meter = made()
    tracemalloc.start()
    for _ in range(2 * WINDOW):
        meter.step(TOKENS)
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(steps):
        meter.step(TOKENS)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def reading_s() -> float:
    meter, times = made(), []
    metered(meter)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        meter.compute()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    meter = made()
    ratio = in_turns(empty, lambda: metered(meter), ROUNDS)
    step_s = (ratio.b_s - ratio.a_s) / STEPS
    print(f"meter.step      {1e6 * step_s:7.2f} µs more than an empty loop's turn, to be under 20")
    print(f"meter.compute   {1e6 * reading_s():7.1f} µs for {WINDOW} steps")
    print(f"memory          {growth_bytes(MILLION):7,} bytes more after {MILLION:,} steps")


if __name__ == "__main__":
    main()
