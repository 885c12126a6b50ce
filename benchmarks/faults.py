"""Is a planted fault found, and ranked first?

    python benchmarks/faults.py [FAULT...]

Each fault of benchmarks/faulty.py is profiled by the command that a person types, in the format that
a well-made model has where the device multiplies it faster; a healthy model shows what is left.
"""

import json
import subprocess
import sys
from pathlib import Path

FAULTY = Path(__file__).with_name("faulty.py")

# The planted fault: (factory, the finding it is, shape of the batch, further options). On a CPU one
# kernel is no faster than attention written out before some 1024 tokens.
FAULTS: dict[str, tuple[str, str | None, str, tuple[str, ...]]] = {
    "nothing": ("healthy", None, "8x256", ()),
    "a sleep in the data path": (
        "healthy", "data", "8x256", ("--batches", f"{FAULTY}:slow_batches"),
    ),
    "a .item() per layer": ("reading", "sync", "8x256", ()),
    "a float32 product": ("float32_product", "mixed", "8x256", ()),
    "a vocabulary of 50257": ("odd_vocabulary", "padding", "8x256", ()),
    "attention written out": ("written_out", "attention", "2x1024", ()),
}  # fmt: skip


def advice(factory: str, shape: str, options: tuple[str, ...]) -> list[dict]:
    """The advice of a profile, most gain first."""
    command = [sys.executable, "-m", "gptbench", "profile", f"{FAULTY}:{factory}"]
    command += ["--input-shape", shape, "--dtype", "bfloat16", "--format", "json", *options]
    answer = subprocess.run(command, check=True, capture_output=True)
    return json.loads(answer.stdout)["result"]["advice"]


def told(found: dict | None) -> str:
    """'sync ≥ 0.0%'."""
    if found is None:
        return "-"
    return f"{found['key']} {'≥ ' if found['unseen'] else ''}{100 * found['share']:.1f}%"


def main() -> None:
    asked = sys.argv[1:]
    first = planted = 0
    print(f"{'planted':<26}{'expected':<11}{'rank':>5}   {'first':<20}{'second':<20}")
    for fault, (factory, key, shape, options) in FAULTS.items():
        if asked and key not in asked and factory not in asked:
            continue
        found = advice(factory, shape, options)
        rank = next((one["rank"] for one in found if one["key"] == key), None)
        first += rank == 1
        planted += key is not None
        two = [told(one) for one in (*found, None, None)[:2]]
        print(
            f"{fault:<26}{key or 'nothing':<11}{rank or '-':>5}   {two[0]:<20}{two[1]:<20}",
            flush=True,
        )
    print(f"found and ranked first: {first} of {planted}")


if __name__ == "__main__":
    main()
