"""What counts as out of memory: by class, and by every sentence that means it.

Any other failure is a failure: a crash that were taken for a limit would certify a wrong batch.
"""

import re

import torch

# torch raises RuntimeError for all of these; the words are those of its own sources.
_SENTENCES = re.compile(
    r"""out\ of\ memory
    | can't\ allocate\ memory              # DefaultCPUAllocator
    | not\ enough\ memory
    | Cannot\ allocate\ memory             # errno ENOMEM by way of a library
    | CUBLAS_STATUS_ALLOC_FAILED
    | CUDNN_STATUS_ALLOC_FAILED
    | could\ not\ create\ a\ memory        # oneDNN
    | std::bad_alloc""",
    re.VERBOSE | re.IGNORECASE,
)


# "[enforce fail at alloc_cpu.cpp:127] err == 0. ", in front of what torch has to say
_CHECK_THAT_FAILED = re.compile(r"^\[enforce fail at [^]]*\] \S+ == \S+\. ")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that there was no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and bool(_SENTENCES.search(str(error)))


def sentence(error: BaseException) -> str:
    """The one line of the message that says how much was asked for."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if _SENTENCES.search(line)]
    said = (telling or lines or [type(error).__name__])[0]
    return _CHECK_THAT_FAILED.sub("", said)[:300]
