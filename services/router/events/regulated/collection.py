"""Brings the journal's complete files to the monitoring service, and removes them when it has stored them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.hop.errors import Fault
from headrace.state.files.claims import claimed
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.commits import Codec, Committer
from services.router.events.regulated.frames import JournalError
from services.router.events.regulated.journal_file import ASIDE_SUFFIX, JournalFiles
from services.router.facts.sender import is_final

_CALL_S = 10.0
_MESSAGE_BYTES = 1 << 20


class Collection:
    """Runs beside the requests. `clock`: monotonic seconds."""

    def __init__(
        self,
        files: JournalFiles,
        codec: Codec,
        committer: Committer,
        metrics: EventMetrics,
        every_s: float,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._files = files
        self._codec = codec
        self._committer = committer
        self._metrics = metrics
        self._every_s = every_s
        self._clock = clock
        self._log = log
        self._failing = False

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.collect()
            except Exception as error:  # noqa: BLE001 - the loop must go on: the files are still there
                self._fails(f"{type(error).__name__}: {error}")

    async def collect(self) -> None:
        """Once: closes the file that is written, and brings all that are complete."""
        await asyncio.to_thread(self._files.rotate)
        for path in await asyncio.to_thread(self._files.complete):
            with claimed(path) as ours:
                # Another process may have brought or moved it.
                if not ours:
                    continue
                if not await self._bring(path):
                    break
        self._metrics.uncollected.set(await asyncio.to_thread(self._files.size_bytes))
        self._metrics.works.set(await asyncio.to_thread(self._files.writable))

    async def _bring(self, path: Path) -> bool:
        """Whether it makes sense to go on with the next file."""
        frames, damage = await asyncio.to_thread(_readable, self._files, path)
        for content in _joined(frames):
            try:
                await self._committer.commit(self._codec.decode(content), self._clock() + _CALL_S)
            except ValueError as error:
                damage = str(error)
            except Fault as fault:
                if not is_final(fault):
                    self._fails(fault.message)
                    return False
                damage = fault.message  # of this message: the others are brought all the same
        await asyncio.to_thread(_done_with, path, damaged=bool(damage))
        if damage:
            self._log.error(
                "a file of the journal can't be read; it was set aside", file=path.name, error=damage
            )
        if self._failing:
            self._failing = False
            self._log.info("the journal is collected again")
        return True

    def _fails(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.warning("the journal can't be collected; it grows meanwhile", error=why)


def _readable(files: JournalFiles, path: Path) -> tuple[list[bytes], str]:
    """The frames of a file up to the first that is damaged, and what is wrong with it; "": nothing."""
    frames: list[bytes] = []
    try:
        for content in files.frames(path):
            frames.append(content)  # noqa: PERF402 - those before a damaged one count
    except JournalError as error:
        return frames, str(error)
    return frames, ""


def _done_with(path: Path, *, damaged: bool) -> None:
    if damaged:
        path.rename(path.with_name(path.name + ASIDE_SUFFIX))
    else:
        path.unlink()


def _joined(frames: list[bytes]) -> list[bytes]:
    """Fewer, larger messages: the bytes of several messages, one after the other, are one message with the groups of all."""
    found: list[list[bytes]] = []
    size = _MESSAGE_BYTES
    for content in frames:
        if size + len(content) > _MESSAGE_BYTES:
            found.append([])
            size = 0
        found[-1].append(content)
        size += len(content)
    return [b"".join(parts) for parts in found]
