"""A proxy before Redis that can make it slow, closed, or full of garbage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SLOW_S = 0.2


class FaultProxy:
    """Stands between a client and Redis, so that the connection itself can fail. Modes: pass, slow, closed, garbage."""

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
        """Changes the mode. Closes the connections for `closed` and `garbage`."""
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
            # Closed from either side, or by `switch`.
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
