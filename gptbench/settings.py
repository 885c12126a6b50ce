"""Settings of a machine and of a process that change what is measured, by their names in a record.

Those of an allocator are a factor of `comparability`; of the others a comparison says which differ.
"""

from collections.abc import Iterable, Sequence

from gptbench.record import Record

# Which pages the C library takes, and from where: a tenth of the speed of a step on a CPU.
HOST_ALLOCATOR = ("GLIBC_TUNABLES", "MALLOC_CONF")
CUDA_ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")

# Variables of the environment, each stored where it is set.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_PROC_BIND",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    *HOST_ALLOCATOR,
    "LD_PRELOAD",
    "PYTHONHASHSEED",
    *CUDA_ALLOCATOR,
    "TORCHINDUCTOR_MAX_AUTOTUNE",
)

# What the machine is set to.
MACHINE = (
    "affinity",
    "governor",
    "huge_pages",
    "denormals",
    "garbage_collector",
    "mig",
    "persistence_mode",
    "ecc",
    "driver",
)

# The threads are a factor already, whatever set them; a card's index says nothing of the card.
_SAID_ELSEWHERE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
_NOTED = (*(v for v in VARIABLES if v not in _SAID_ELSEWHERE), *MACHINE)


def value(rec: Record, name: str) -> str:
    """What a setting is in a record; 'unset' of what is not stored."""
    found = rec.environment.get(name)
    return "unset" if found is None else str(found)


def allocator(rec: Record) -> tuple[str, ...]:
    """The settings of the allocator that the tensors of a record were in."""
    return HOST_ALLOCATOR if rec.device.kind == "cpu" else CUDA_ALLOCATOR


def differing(base: Sequence[Record], new: Sequence[Record]) -> tuple[str, ...]:
    """The settings in which two sides differ: 'governor powersave → performance'.

    Those of the allocator that its tensors were in are not among them.
    """
    found = []
    for name in (n for n in _NOTED if n not in allocator(base[0])):
        before, after = _values(base, name), _values(new, name)
        if before != after:
            found.append(f"{name} {before} → {after}")
    return tuple(found)


def _values(records: Iterable[Record], name: str) -> str:
    return " and ".join(sorted({value(rec, name) for rec in records}))
