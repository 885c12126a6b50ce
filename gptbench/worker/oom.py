"""What counts as out of memory where an exception says it: by class, and by its sentence."""

import torch

from gptbench import oom


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was no memory left.

    torch raises RuntimeError, or a class below it, for whatever its libraries report.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and oom.says_so(str(error))


def sentence(error: BaseException) -> str:
    """The one line of the message that says how much was asked for."""
    return oom.sentence(str(error), type(error).__name__)
