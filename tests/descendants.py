"""A process with all that it starts: its processor time, its limit, and what it leaves behind, which is ended."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.1
# From the interrupt on, for the ends of fixtures: a system is taken down, namespaces are deleted.
_TEARDOWN_S = 90


class Descendants:
    """One run at a time. Orphans become children of this process (Linux), so that they are waited for and counted here."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        # Whether it came to the limit, or this process was told to stop by SIGINT or SIGTERM.
        self.limited = self.stopped = False
        self._pid = 0

    def run(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        output: IO[Any],
        limit_s: float,
        tick: Callable[[], None],
    ) -> int:
        """Exit code, negative for a signal. Interrupted at the limit as by Ctrl-C, killed if that does not end it."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        # In a session of its own, or Ctrl-C reached it twice.
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._pid, end = process.pid, time.monotonic() + limit_s
        try:
            code = self._until(end, tick)
            self.limited = code is None
        except KeyboardInterrupt:
            self.stopped, code = True, None
        if code is None:
            os.kill(self._pid, signal.SIGINT)
            code = self._until(time.monotonic() + _TEARDOWN_S, tick)
        process.returncode = -signal.SIGKILL if code is None else code  # waited for here
        signal.signal(signal.SIGTERM, before)
        return int(process.returncode)

    def end_rest(self) -> list[str]:
        """Kills what is left; returns its command lines."""
        commands = []
        while children := _children():
            for pid in children:
                commands.append(_command(pid))
                os.kill(pid, signal.SIGKILL)
            while set(children) & set(_children()):
                self._reap()
                time.sleep(_POLL_S)
        return commands

    def _until(self, end: float, tick: Callable[[], None]) -> int | None:
        while time.monotonic() < end:
            code = self._reap()
            tick()
            if code is not None:
                return code
            time.sleep(_POLL_S)
        return None

    def _reap(self) -> int | None:
        """Waits for all that have ended; the exit code of the process itself if it is among them."""
        code = None
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return code
            if pid == 0:
                return code
            self.cpu_s += usage.ru_utime + usage.ru_stime
            if pid == self._pid:
                code = os.waitstatus_to_exitcode(status)


def _children() -> list[int]:
    found = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in found.read_text().split()] if found.exists() else []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()[:120]
    except OSError:
        return str(pid)
