"""A picture of what a command shows in a terminal, as SVG.

`python benchmarks/terminal.py reports/cpu-2-cores/throughput.svg gptbench throughput`
"""

import io
import os
import pty
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 104


def output_of(command: list[str]) -> str:
    """What the command writes to a terminal of its own; the progress bar, which goes away, left out."""
    written = bytearray()

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        written.extend(data)
        return data

    os.environ |= {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    status = pty.spawn(command, keep)
    if status:
        sys.exit(f"{shlex.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    text = written.decode().replace("\r\n", "\n")
    return re.sub(r"(?:.*\r)*.*\x1b\[\?25h(?:\r\x1b\[1A\x1b\[2K|\r\x1b\[2K)*", "", text)


def main() -> None:
    target, command = Path(sys.argv[1]), sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    console.print(Text.from_ansi(output_of(command)))
    svg = console.export_svg(title="gptbench")
    # Without the web fonts that rich names: a picture asks nobody for anything.
    target.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main()
