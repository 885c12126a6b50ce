"""What means that memory ran out: the sentences of libraries, and the ways in which processes end.

Anything else is a failure: a crash that were taken for a limit would certify a wrong batch.
"""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from gptbench import cgroup

_SENTENCES = re.compile(
    r"""out\ of\ memory                    # CUDA, HIP, NCCL, Triton, cuFFT, and libgomp
    | OUT_OF_MEMORY                        # the CUDA driver's own name for it
    | ErrorMemoryAllocation                # the CUDA runtime's
    | can't\ allocate\ memory              # DefaultCPUAllocator
    | not\ enough\ memory                  # the same, on some systems
    | Cannot\ allocate\ memory             # errno ENOMEM by way of a library
    | (?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_ALLOC_FAILED
    | CUDNN_STATUS_INTERNAL_ERROR_(?:HOST|DEVICE)_ALLOCATION_FAILED  # cuDNN 9
    | CUFFT_ALLOC_FAILED
    | Failed\ to\ CUDA\ (?:host\ )?(?:c|m)alloc   # NCCL
    | could\ not\ create\ a\ memory        # oneDNN
    | std::bad_alloc
    | \b(?:Memory|OutOfMemory)Error\b      # the last line of a traceback""",
    re.VERBOSE | re.IGNORECASE,
)

# "[enforce fail at alloc_cpu.cpp:127] err == 0. ", in front of what torch has to say
_CHECK_THAT_FAILED = re.compile(r"^\[enforce fail at [^]]*\] \S+ == \S+\. ")

_TRACEBACK = "Traceback (most recent call last)"
_CLASSES = re.compile(r"(?:torch\.|torch\.cuda\.)?(?:Memory|OutOfMemory)Error\b")

MOST_CHARACTERS = 300


def says_so(text: str) -> bool:
    """Whether a library's words say that there was no memory left."""
    return _SENTENCES.search(text) is not None


def sentence(text: str, otherwise: str) -> str:
    """The one line of a message that says how much was asked for; `otherwise` of an empty one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if says_so(line)]
    said = (telling or lines or [otherwise])[0]
    return _CHECK_THAT_FAILED.sub("", said)[:MOST_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended without an answer.

    `status` is its exit status, or minus the number of the signal that ended it. `words` is what
    it wrote to stderr. `killed` is how many processes the kernel killed for want of memory while
    it ran.
    """

    status: int
    words: str
    killed: int

    def of_memory(self) -> str | None:
        """Why it is one that means that memory ran out; None where it is any other crash.

        A kernel kill counts only with the kernel's own count raised: whoever else sends SIGKILL
        says nothing about memory. A library that cannot go on aborts, or exits, after saying so.
        """
        if self.status == -signal.SIGKILL and self.killed:
            return "the kernel killed it because memory ran out"
        if self.status != -signal.SIGABRT and self.status <= 0:
            return None
        last = self._last_lines()
        if _TRACEBACK in self.words:
            # The exception was looked at before; only its class says more than its words.
            last = [line for line in last[-1:] if _CLASSES.match(line)]
        telling = [line for line in last if says_so(line)]
        return telling[-1][:MOST_CHARACTERS] if telling else None

    def __str__(self) -> str:
        """How it ended and what it said last, for a sentence."""
        how = f"with status {self.status}"
        if self.status < 0:
            how = f"by {signal.Signals(-self.status).name}"
        if self.status == -signal.SIGKILL:
            how += " (the kernel does not say that memory ran out)"
        said = " | ".join(self._last_lines()) or "nothing"
        return f"ended {how} before it answered. Its last words: {said}"

    def _last_lines(self) -> list[str]:
        lines = (line.strip() for line in self.words.splitlines())
        # Without the marks under a line of a traceback.
        return [line for line in lines if line.strip("^~ ")][-3:]


def kernel_kills(root: Path = cgroup.ROOT) -> int:
    """Processes that the kernel has killed for want of memory; 0 on systems that do not tell.

    They are those of this control group, or where nobody counts them of the whole machine. It is
    read before and after a process runs in the same control group.
    """
    for name in ("memory.events", "memory.oom_control"):
        killed = cgroup.count("memory", name, "oom_kill", root)
        if killed is not None:
            return killed
    return cgroup.number(root / "proc/vmstat", "oom_kill") or 0
