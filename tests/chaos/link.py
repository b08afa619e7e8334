"""A way between two services that can be slow, lossy or cut: a proxy in user space between two unix sockets.

It stands where the caller looks for its callee (`unix-dir:`), and passes on to whichever process is listed there.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 14
# TCP's least time until it sends again what was not acknowledged (Linux: TCP_RTO_MIN).
_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Quality:
    """Of each direction. `delay_s` ± `jitter_s`; `loss`: share of chunks that must be sent again; `cut`: nothing arrives."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    cut: bool = False


class Link:
    """Listens in `folder`; connects to the newest socket in `callee`."""

    def __init__(self, folder: Path, callee: Path) -> None:
        self.folder = folder
        self._callee = callee
        self._quality = Quality()
        self._drawn = random.Random(1)
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within the context; in a thread of its own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready, stop = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(ready, stop),))
        thread.start()
        try:
            assert ready.wait(60), "the link does not listen"
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            self._loop.close()

    def become(self, quality: Quality) -> None:
        """How it is from now on; what waits arrives when it is cut no more."""
        self._loop.call_soon_threadsafe(self._become, quality)

    def _become(self, quality: Quality) -> None:
        self._quality = quality
        self._changed.set()
        self._changed = asyncio.Event()

    async def _serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        path = self.folder / "link.sock"
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._accept, path)
        ready.set()
        await stop.wait()
        server.close()
        path.unlink(missing_ok=True)
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        try:
            newest = max(self._callee.glob("*.sock"), key=lambda path: path.stat().st_mtime)
            there_reader, there = await asyncio.open_unix_connection(newest)
            ways = [
                asyncio.ensure_future(self._pass(*ends)) for ends in ((reader, there), (there_reader, writer))
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, ValueError):
            pass  # no process is listed, or it has gone: the caller sees a closed connection
        finally:
            writer.transport.abort()
            if there is not None:
                there.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction. Ends with its reader, once all has arrived."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        delivery = asyncio.ensure_future(self._deliver(queue, writer))
        last = 0.0
        try:
            while data := await reader.read(_CHUNK):
                # In order, as in a stream: what was lost holds up what is behind it.
                last = max(last, self._loop.time() + self._waits())
                queue.put_nowait((last, data))
            await queue.join()
        finally:
            delivery.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await delivery

    def _waits(self) -> float:
        quality = self._quality
        waits = quality.delay_s + self._drawn.uniform(-quality.jitter_s, quality.jitter_s)
        again = _AGAIN_S
        while self._drawn.random() < quality.loss:
            waits += again
            again *= 2
        return max(waits, 0.0)

    async def _deliver(self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - self._loop.time())
            while self._quality.cut:
                await self._changed.wait()
            writer.write(data)
            await writer.drain()
            queue.task_done()
