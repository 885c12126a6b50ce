"""The control groups that this process is in: what a container, or a job of a cluster, may use.

A limit of any group around this one holds too, so every file is looked for from the innermost
group to the outermost (cgroups(7); version 2, then 1).
"""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def readings(controller: str, name: str, root: Path = ROOT) -> Iterator[str]:
    """The text of a file in each of the groups that has it, the innermost first.

    Nothing on systems that have no control groups.
    """
    for folder in _folders(controller, root):
        text = _text(folder / name)
        if text is not None:
            yield text


def whole_cpus(root: Path = ROOT) -> int | None:
    """Whole CPUs of the smallest quota, rounded down and at least 1; None where there is none."""
    quotas = [text.split() for text in readings("cpu", "cpu.max", root)]
    older = zip(
        readings("cpu", "cpu.cfs_quota_us", root),
        readings("cpu", "cpu.cfs_period_us", root),
        strict=False,
    )
    quotas += [[quota.strip(), period.strip()] for quota, period in older]
    # Without a quota there stands 'max', or -1.
    found = [int(quota) // int(period) for quota, period in quotas if quota.isdigit()]
    return max(1, min(found)) if found else None


def memory_left_bytes(root: Path = ROOT) -> int | None:
    """What the tightest of the memory limits leaves; None where there is no limit."""
    left = []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        pairs = zip(readings("memory", limit, root), readings("memory", used, root), strict=False)
        left += [int(most) - int(now) for most, now in pairs if most.strip().isdigit()]
    return max(0, min(left)) if left else None


def count(controller: str, name: str, key: str, root: Path = ROOT) -> int | None:
    """A counter of a file of 'key number' lines, of the innermost group that has it."""
    counts = (number(folder / name, key) for folder in _folders(controller, root))
    return next((found for found in counts if found is not None), None)


def number(file: Path, key: str) -> int | None:
    """The number behind a word in a file of the kernel's that has one of each a line."""
    for line in (_text(file) or "").splitlines():
        word, _, value = line.partition(" ")
        if word == key:
            return int(value)
    return None


def _folders(controller: str, root: Path) -> dict[Path, None]:
    """Where the files of a controller may stand, in order and once each."""
    mounted = root / "sys/fs/cgroup"
    found: dict[Path, None] = {}
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside = Path(path.lstrip("/"))
        # Of a group outside of this namespace nothing can be seen but the outermost folder.
        groups = [] if ".." in inside.parts else [inside, *inside.parents]
        if controllers == "":
            found |= dict.fromkeys(mounted / group for group in groups)
        elif controller in controllers.split(","):
            found |= dict.fromkeys(mounted / controller / group for group in groups)
    return found | dict.fromkeys((mounted / controller, mounted))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
