"""A picture of what a command shows in a terminal, as SVG.

`python benchmarks/terminal.py reports/cpu-2-cores/throughput.svg gptbench throughput`
"""

import contextlib
import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 104


def shown(command: list[str]) -> str:
    """What is left on a terminal of the command: its answer, in colour, and then its notes.

    stderr is a pipe, so that the progress bar, which goes away, is not drawn at all.
    """
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdout=theirs, stderr=subprocess.PIPE, env={**os.environ, **size}, text=True
    ) as process:
        os.close(theirs)
        answer = bytearray()
        with contextlib.suppress(OSError):  # Linux: EIO when the other side has closed
            while data := os.read(ours, 4096):
                answer += data
        assert process.stderr is not None
        notes = process.stderr.read()
    if process.returncode:
        sys.exit(f"{shlex.join(command)} ended with {process.returncode}: {notes}")
    return answer.decode().replace("\r\n", "\n") + notes


def main() -> None:
    target, command = Path(sys.argv[1]), sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    console.print(Text.from_ansi(shown(command)))
    svg = console.export_svg(title="gptbench")
    # Without the web fonts that rich names: a picture asks nobody for anything.
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main()
