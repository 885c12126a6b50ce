"""Versions and settings that another person would need to see the same number."""

import contextlib
import gc
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

import gptbench
from gptbench import cores, settings
from gptbench.worker import nvml

# Of what torch requires; and what brings models and kernels of its own.
KERNELS = ("nvidia", "cuda", "triton", "pytorch-triton", "mkl", "intel")
MODELS = ("numpy", "transformers", "flash-attn", "xformers", "transformer-engine")

# The smallest normal float32 is 1.2e-38.
DENORMAL = 1e-40

Facts = dict[str, str | int | float | None]


def environment(device: torch.device) -> Facts:
    """Versions, settings, and what was loaded already, at this moment."""
    facts: Facts = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "affinity": len(own) if (own := cores.affinity()) else None,
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "huge_pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "denormals": denormals(),
        "garbage_collector": "held during the window" if gc.isenabled() else "off",
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "cuda": torch.version.cuda or torch.version.hip,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
            "driver": nvml.driver_version(),
            **nvml.settings(str(getattr(properties, "uuid", ""))),
        }
    facts |= packages()
    facts |= {name: os.environ[name] for name in settings.VARIABLES if name in os.environ}
    return facts


def commits() -> Facts:
    """The git commits of gptbench, where it is a checkout, and of the folder one is in."""
    return {
        "gptbench_commit": commit(Path(gptbench.__file__).parent, "__init__.py"),
        "folder_commit": commit(Path.cwd()),
    }


def cpu_name() -> str:
    """The processor's model as the kernel names it, with the number of cores in use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {torch.get_num_threads()} threads"


def denormals() -> str:
    """What the processor does with numbers below float32's normal ones.

    Computing with them can take twice as long, so that steps with vanished gradients slow down
    where they are kept and not where they are flushed.
    """
    kept = bool((torch.full((1,), DENORMAL) * 0.5).item())
    return "kept" if kept else "flushed to zero"


def packages() -> Facts:
    """The versions of installed packages that compute, or whose kernels a model may use."""
    required = (re.match(r"[\w.-]+", text) for text in importlib.metadata.requires("torch") or ())
    kernels = [word[0] for word in required if word and word[0].startswith(KERNELS)]
    versions: Facts = {}
    for name in (*kernels, *MODELS):
        # What is not installed here is for another platform, or for other models.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def commit(folder: Path, tracked: str = ".") -> str | None:
    """The git commit of a folder, with '-dirty' where files differ from it; None outside of git.

    `tracked` must be under version control: what is installed into somebody's checkout is not.
    """
    if not _git(folder, "ls-files", "--", tracked):
        return None
    return _git(folder, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty") or None


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or none of ours
        return ""
    return done.stdout.strip()


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _chosen(path: str) -> str | None:
    """'always [madvise] never' -> 'madvise'."""
    line = _first_line(path)
    found = re.search(r"\[(\w+)\]", line or "")
    return found[1] if found else line
