"""A Redis that can be killed, stopped and started again, and a way to it that can be slow, closed or full of garbage."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

SLOW_S = 0.2
_START_S = 20.0


class Redis:
    """A redis-server of this run's own, which keeps what it has over a kill."""

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
            # While it loads what it had it answers with an error.
            return connection.recv(7) == b"+PONG\r\n"
        return False

    @property
    def pid(self) -> int:
        """Its process, until it is killed."""
        return self._process.pid

    def signal(self, number: int) -> None:
        """Sends it a signal; one that ends it is waited for."""
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


class Proxy:
    """Between a client and Redis, so that the way itself can fail. Modes: pass, slow, closed, garbage."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.mode = "pass"
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[None]:
        """Listens on loopback."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()
            self._cut()

    def switch(self, mode: str) -> None:
        """From now on; connections are cut unless they are only slowed."""
        self.mode = mode
        if mode in ("closed", "garbage"):
            self._cut()

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            if self.mode == "closed":
                return
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._pump(reader, there), self._pump(there_reader, writer, back=True))
        except (OSError, RuntimeError):
            # Cut from either side, or by `switch`.
            pass
        finally:
            writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool = False
    ) -> None:
        while data := await reader.read(1 << 16):
            if back and self.mode == "slow":
                await asyncio.sleep(SLOW_S)
            writer.write(b"\x00nonsense\r\n" if back and self.mode == "garbage" else data)
        writer.close()
