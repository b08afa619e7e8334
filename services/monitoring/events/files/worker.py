"""The process of its own that has the files of events: a question that takes too much memory or time ends nothing but itself."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from services.monitoring.events.files.location import Location


class WorkerError(OSError):
    """The process ended, took too long, or could not do it. The text is for people, without paths."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


class FileWorker:
    """Runs methods of `EventFiles` in the process, one at a time. Threads may share it. `memory_bytes`: what DuckDB may use;
    `timeout_s`: of one call. Raises WorkerError, FileDamagedError."""

    def __init__(self, location: Location, memory_bytes: int, threads: int, timeout_s: float) -> None:
        self._location = location
        self._limits = memory_bytes, threads
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    def run(self, method: str, *args: object) -> Any:
        """`method`: the name of a method of `EventFiles`. Blocks."""
        with self._lock:
            pipe = self._pipe or self._start()
            try:
                pipe.send((method, args))
                if not pipe.poll(self._timeout_s):
                    self._end()
                    raise WorkerError(f"it took more than {self._timeout_s:g} s")
                done, found = pipe.recv()
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self._end()
                raise WorkerError("the process that reads events has ended, as for want of memory") from None
        if not done:
            raise found
        return found

    def close(self) -> None:
        """Ends the process, after what it is doing."""
        with self._lock:
            self._end()

    def _start(self) -> Connection:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __package__, str(theirs.fileno())]
            # Arrow's own allocator reserves 1 GiB at once, which counts as much as what is used.
            environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}  # noqa: TID251 - for a child
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
        self._pipe = Connection(ours.detach())
        self._pipe.send((self._location, *self._limits))
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._pipe = None
