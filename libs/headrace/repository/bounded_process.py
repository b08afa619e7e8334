"""Runs a process with limits on time and memory. Untrusted model files are first opened in such a process."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MIB = 1 << 20
_MOST = 8 << 30
_LEAST = 512 * _MIB
_TAIL = 4096
# Variables that a child must not inherit: they tell Envoy where our libpython is, or belong to the parent's metrics.
_NOT_INHERITED = ("PYTHONHOME", "LD_PRELOAD", "PROMETHEUS_MULTIPROC_DIR")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended. `code`: as `Popen.returncode`; None: it ran too long. `error`: the end of its stderr."""

    code: int | None
    output: bytes
    error: str


def run(
    command: Sequence[str], *, seconds: float, started: Callable[[Callable[[], None]], None] = lambda _: None
) -> Ended:
    """Runs `python COMMAND` until it ends, or kills it and its children after `seconds`. Raises OSError.

    The child limits its own memory: it calls `limit`. `started`: called with a function that kills the process earlier, from
    any thread.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}  # noqa: TID251 - a child gets its parent's variables
    environment = {
        **inherited,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        # The child forks, and NumPy's threads would not exist in the fork. Their memory would also count as the model's.
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
            [_python(), "-P", *command],  # -P: nothing of the current folder is imported
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=error,
            env=environment,
            start_new_session=True,
        )

        def end() -> None:
            # Kill the whole process group, so that no process started by the child continues to run.
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)

        started(end)
        code: int | None
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end()
            child.wait()
        output.seek(0)
        error.seek(max(error.seek(0, os.SEEK_END) - _TAIL, 0))
        return Ended(code, output.read(_MIB), error.read().decode(errors="replace"))


def limit(memory_bytes: int) -> None:
    """Lets this process use at most `memory_bytes` more than now. When the machine runs out of memory, it is killed first."""
    with suppress(OSError, ValueError):  # a system without these limits: the limit on time remains
        Path("/proc/self/oom_score_adj").write_text("1000")
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def allowance() -> int:
    """The default memory limit of a process in bytes: three quarters of the free memory, 512 MiB to 8 GiB."""
    free = [_MOST]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError):  # the file says "max" if there is no limit
        group = Path("/sys/fs/cgroup")
        bound = int((group / "memory.max").read_text())
        free.append(bound - int((group / "memory.current").read_text()))
    return max(min(_MOST, *(n * 3 // 4 for n in free)), _LEAST)


def _python() -> str:
    """The interpreter. Inside Envoy, `sys.executable` may be Envoy."""
    ours = Path(sys.prefix) / "bin" / "python"
    return str(ours) if ours.exists() else sys.executable


def killed_by(code: int) -> str:
    """The name of the signal behind a negative return code, for messages."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
