"""What counts as out of memory where an exception says it: by class, and by its sentence."""

import resource

import torch

from gptbench import oom

# What oneDNN says where it cannot have memory, and where it knows no such operation.
_ONEDNN = "could not create a primitive"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was no memory left.

    torch raises RuntimeError, or a class below it, for whatever its libraries report.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError | OSError):
        return False
    return oom.says_so(str(error)) or (_ONEDNN in str(error) and _is_limited())


def _is_limited() -> bool:
    """Whether this process may hold only so much, which is then why a library cannot go on."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return soft != resource.RLIM_INFINITY


def sentence(error: BaseException) -> str:
    """The one line of the message that says how much was asked for."""
    return oom.sentence(str(error), type(error).__name__)
