"""What `gptbench flops gpt2-xl` costs beside the libraries that print its table.

python benchmarks/startup.py
"""

import re
import subprocess
import sys
from pathlib import Path

from turns import in_turns

LIBRARIES = [sys.executable, "-c", "import typer, rich.console, rich.table"]
COMMAND = [str(Path(sys.executable).parent / "gptbench"), "flops", "gpt2-xl"]
# A child asks the kernel for its own peak: what a parent reads of a child holds the parent's too.
PEAK = """
import sys
from gptbench.cli.main import main
main(["flops", "gpt2-xl"])
print(open("/proc/self/status").read(), file=sys.stderr)
"""


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


def main() -> None:
    ratio = in_turns(lambda: run(LIBRARIES), lambda: run(COMMAND), rounds=15)
    peak = re.search(r"VmHWM:\s+(\d+) kB", run([sys.executable, "-c", PEAK]))
    assert peak is not None
    print(f"import typer, rich.console, rich.table   {1000 * ratio.a_s:6.1f} ms")
    print(f"gptbench flops gpt2-xl                   {1000 * ratio.b_s:6.1f} ms")
    print(f"ratio {ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}], to be at most 1.5")
    print(f"peak memory {int(peak[1]) / 1024:.1f} MiB, to be under 40")


if __name__ == "__main__":
    main()
