"""A redis-server of a run's own, which can be killed, stopped and started again."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_S = 20.0


class Redis:
    """A redis-server of this run's own, which keeps its data when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.port = 16400 + random.randint(0, 900)
        self._command = [
            "redis-server", "--port", str(self.port), "--save", "", "--appendonly", "yes", "--dir", str(folder),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        """Starts it, for the first time or after a kill, and waits until it answers. Raises TimeoutError."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(f"redis-server does not answer on port {self.port}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2) as connection:
            connection.sendall(b"PING\r\n")
            # While it loads its data it answers with an error.
            return connection.recv(7) == b"+PONG\r\n"
        return False

    @property
    def pid(self) -> int:
        """Pid of its process."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Sends it a signal; waits for its end after SIGKILL and SIGTERM."""
        self._process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait()


@contextmanager
def redis_server(folder: Path) -> Iterator[Redis]:
    """An empty redis-server."""
    redis = Redis(folder)
    try:
        yield redis
    finally:
        redis.signal(signal.SIGTERM)
