"""Processes that tests start, and that end with them."""

import os
import shutil
import sys

from headrace.cli.supervision import pdeathsig


def ends_with_tests(program: str, *arguments: str) -> list[str]:
    """The command for a server that the kernel kills when the thread that starts it ends, also by SIGKILL (Linux)."""
    command = [shutil.which(program) or program, *arguments]
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", pdeathsig.__file__, str(os.getpid()), *command]
