"""`child.py PARENT MODULE ARGUMENT...`: runs a program of the demo that ends with it, even if the demo is killed.

On Linux the kernel sends SIGTERM when the parent dies; elsewhere a demo that is killed by SIGKILL leaves its programs.
A module of its own, run after exec: between fork and exec of a program with threads nothing of this is safe.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Be sent SIGTERM when `parent` dies; at once where it has."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    module = sys.argv[2]
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
