"""Does advice keep what it promises? Predicted against measured gains of presets on this machine.

    python benchmarks/tries.py [--try-time T]

Each row is a finding of `gptbench profile PRESET OPTIONS --try`: what was predicted from the profile,
and what steps with the change came to in turns with those without, with the interval. Misses stay in.
"""

import json
import subprocess
import sys

# Short steps: a trial is pairs of visits, and many of them fit into its time.
ASKED = {
    "nanogpt-cpu": (),
    "scratchgpt": ("-b", "4", "-t", "128"),
    "minigpt": ("-b", "2", "-t", "128", "--recompute", "block"),
    "gptfromscratch-rope": ("--attention", "math"),
}
TIME = "180s"


def profiled(preset: str, options: tuple[str, ...], time: str) -> dict:
    """The document of a profile whose advice was tried."""
    command = [sys.executable, "-m", "gptbench", "profile", preset, *options, "--try"]
    command += ["--try-time", time, "--format", "json"]
    answer = subprocess.run(command, check=True, capture_output=True)
    return json.loads(answer.stdout)


def row(preset: str, options: tuple[str, ...], one: dict) -> str:
    trial = one["trial"]
    measured, interval, verdict = "-", "", "cannot be tried"
    if trial is not None:
        verdict = trial["verdict"]
        if trial["saving"] is not None:
            measured = f"{100 * trial['saving']:.1f}%"
        if trial["low"] is not None:
            interval = f"[{100 * trial['low']:.1f}, {100 * trial['high']:.1f}]"
    change = one["option"] or one["key"]
    if one["key"] == "padding":
        change = f"{one['values']['size']} -> {one['values']['padded']}"
    asked = " ".join((preset, *options))
    return (
        f"{asked:<38}{change:<24}{100 * one['share']:>9.1f}%{measured:>10} {interval:<16}{verdict}"
    )


def main() -> None:
    time = sys.argv[2] if sys.argv[1:2] == ["--try-time"] else TIME
    print(f"{'asked':<38}{'change':<24}{'predicted':>10}{'measured':>10} {'interval':<16}verdict")
    for preset, options in ASKED.items():
        for one in profiled(preset, options, time)["result"]["advice"]:
            print(row(preset, options, one), flush=True)
            if one["trial"] is not None and one["trial"]["saving"] is None:
                print(f"{'':<38}{one['trial']['reason']}", flush=True)


if __name__ == "__main__":
    main()
