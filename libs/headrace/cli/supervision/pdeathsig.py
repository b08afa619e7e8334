"""Becomes another program that dies with its parent: `python -I -S pdeathsig.py PARENT PROGRAM ARGUMENT…`.

A supervisor that is killed can't stop its children, so the kernel does (PR_SET_PDEATHSIG, which survives exec). It is set
by this program in between, and not in a `preexec_fn`: the supervisor has gRPC's threads, and a program with threads
must not run Python code between fork and exec. The signal is SIGKILL, because a stopped or hung child would not act on
another one.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replaces this process. Exits at once if the parent is gone already."""
    parent, program, *rest = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(parent):
        return
    os.execv(program, [program, *rest])  # noqa: S606 - the command is the supervisor's own


if __name__ == "__main__":
    main(sys.argv[1:])
