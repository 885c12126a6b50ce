"""Ends a worker whose parent is gone: an orphan would go on using the device.

On Linux the kernel does it. Elsewhere a thread waits for the end of stdin, which the parent holds
open for as long as it lives and wants an answer.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2), Linux

# The worker is what a full machine is to lose first (proc(5), oom_score_adj).
_FIRST_TO_GO = "1000"


def hold(parent: int, stdin: int = 0, platform: str = sys.platform) -> None:
    """From here on this process dies with the process `parent`.

    Elsewhere than on Linux nothing but a watching thread may read the file `stdin` from now on.
    """
    if platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before the kernel was asked to watch
            os.kill(os.getpid(), signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
        return
    threading.Thread(target=_die_at_the_end_of, args=(stdin,), daemon=True).start()


def _die_at_the_end_of(file: int) -> None:
    while os.read(file, 1 << 16):
        pass
    os.killpg(0, signal.SIGKILL)
