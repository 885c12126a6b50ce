"""What is being done and how long it will take: one line on stderr that goes away."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.text import Text

# What is being done, and the seconds it is expected to take; 0 where nobody knows.
Update = Callable[[str, float], None]

# The parent draws while its worker is timed on the same cores: rarely enough not to be seen there.
REFRESHES_PER_S = 2


@contextmanager
def bar(console: Console) -> Iterator[Update]:
    """A bar that takes (what is being done, seconds expected); silent where nobody watches."""
    if not console.is_terminal:
        yield _silent
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        _ExpectedBar(bar_width=24),
        TimeElapsedColumn(),
        _Left(),
    )
    with Progress(
        *columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_S
    ) as shown:

        def update(doing: str, expected_s: float) -> None:
            for task in shown.task_ids:
                shown.remove_task(task)
            shown.add_task(doing, total=expected_s or None)

        yield update


class _ExpectedBar(BarColumn):
    """Filled by the clock: the worker is busy and says nothing until a phase is over."""

    def render(self, task: Task) -> ProgressBar:
        if task.total is not None:
            task.completed = min(task.elapsed or 0.0, 0.99 * task.total)
        return super().render(task)


class _Left(ProgressColumn):
    """The seconds left of those expected."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text("")
        return Text(f"about {max(0.0, task.total - (task.elapsed or 0.0)):.0f} s left")


def _silent(_doing: str, _expected_s: float) -> None:
    """Progress that nobody watches."""
