"""A redis-server of a run's own."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

_START_S = 20.0


class Redis(NamedTuple):
    """Where it listens, and its process."""

    port: int
    pid: int


@contextmanager
def redis_server(port: int = 0) -> Iterator[Redis]:
    """An empty redis-server that keeps nothing; 0: at a port that is rarely used. Raises TimeoutError."""
    port = port or 16400 + random.randint(0, 900)
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(port):
            if time.monotonic() > deadline or server.poll() is not None:
                raise TimeoutError(f"redis-server does not answer on port {port}")
            time.sleep(0.02)
        yield Redis(port, server.pid)
    finally:
        server.terminate()
        server.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(7) == b"+PONG\r\n"
    return False
