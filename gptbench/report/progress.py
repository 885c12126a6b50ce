"""What is being done, how far it is and how long it will take: one line on stderr that goes away."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Update = Callable[[str, float], None]


@contextmanager
def bar(console: Console) -> Iterator[Update]:
    """A bar that takes (what is being done, fraction of it done); silent where nobody watches."""
    if not console.is_terminal:
        yield _silent
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("elapsed,", markup=False),
        TimeRemainingColumn(),
        TextColumn("left", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        yield _Line(shown)


class _Line:
    """The one task of a bar; it starts its clock again when something else is being done."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._doing = ""
        self._task: TaskID | None = None

    def __call__(self, doing: str, fraction: float) -> None:
        if self._task is None or doing != self._doing:
            if self._task is not None:
                self._shown.remove_task(self._task)
            self._doing = doing
            self._task = self._shown.add_task(doing, total=None)
        # Without a total the bar pulses: of a start nothing can be said about the end.
        total = 1.0 if fraction > 0 else None
        self._shown.update(self._task, total=total, completed=fraction)


def _silent(_doing: str, _fraction: float) -> None:
    """Progress that nobody watches."""
