"""Does every nanosecond of a step have a name? The waterfall of presets on this machine.

    python benchmarks/waterfalls.py

Each preset is profiled in both modes by the command that a person types. The parts have to sum to
the step exactly, their printed shares to 100.0, and what is unexplained is to be under 5%.
"""

import json
import subprocess
import sys

PRESETS = {
    "scratchgpt": (),
    "minigpt": (),
    "gptfromscratch-rope": (),
    "gpt2-small": ("--steps", "3", "-t", "256"),
}
MODES = ("train", "forward")


def profiled(preset: str, mode: str) -> dict:
    """The document of a profile."""
    command = [sys.executable, "-m", "gptbench", "profile", preset, "--mode", mode]
    answer = subprocess.run(
        [*command, *PRESETS[preset], "--format", "json"], check=True, capture_output=True
    )
    return json.loads(answer.stdout)


def main() -> None:
    print(f"{'preset':<22}{'mode':<9}{'step':>10}{'MFU':>8}{'sum':>7}{'100.0':>7}"
          f"{'unexplained':>13}{'profiler':>10}")  # fmt: skip
    for preset in PRESETS:
        for mode in MODES:
            found = profiled(preset, mode)["result"]
            parts = found["waterfall"]
            step_ns = round(found["step_time_s"] * 1e9)
            exact = sum(part["ns"] for part in parts) == step_ns
            hundred = sum(round(10 * part["percent"]) for part in parts) == 1000
            print(
                f"{preset:<22}{mode:<9}{1e3 * found['step_time_s']:>7.1f} ms"
                f"{100 * found['mfu']:>7.1f}%{'exact' if exact else 'OFF':>7}"
                f"{'yes' if hundred else 'NO':>7}{100 * found['unexplained']:>12.2f}%"
                f"{100 * found['profiler_overhead']:>+9.1f}%",
                flush=True,
            )


if __name__ == "__main__":
    main()
