"""Moves closed segments to object storage, and looks for those of other machines, on a thread of its own: the reception never
waits for the network here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from services.monitoring.events.metrics import SegmentMetrics
from services.monitoring.events.reception import Reception
from services.monitoring.events.storage.closed import survey
from services.monitoring.events.storage.far import FarSegments
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

R = TypeVar("R")
_MOVE_S = 1.0
# Between two looks at what other machines stored.
_LOOK_S = 60.0


class Shipment:
    """`far` None: segments stay where they are."""

    def __init__(
        self, far: FarSegments | None, reception: Reception, metrics: SegmentMetrics, log: Log
    ) -> None:
        self._far = far
        self._reception = reception
        self._metrics = metrics
        self._log = log
        self._thread = ThreadPoolExecutor(1, "segments")
        self._away = False

    async def run(self) -> None:
        """Until cancelled. What can't be moved stays and is moved later."""
        far, since = self._far, _LOOK_S
        while far is not None:
            moved = await self._told(lambda: self.move(far))
            if moved and since >= _LOOK_S and await self._told(lambda: self.look(far)):
                since = 0.0
            since += _MOVE_S
            await asyncio.sleep(_MOVE_S)

    async def close(self) -> None:
        """Moves what is left, once."""
        far = self._far
        if far is not None:
            await self._told(lambda: self.move(far))
        self._thread.shutdown(wait=False)

    async def move(self, far: FarSegments) -> None:
        """Moves what is in the folder, the oldest first. Raises OSError."""
        try:
            for name in sorted(await self._run(far.local_names)):
                if await self._run(partial(far.upload, name)):
                    self._metrics.moved.inc()
        finally:
            self._metrics.waiting.set(len(await self._run(far.local_names)))

    async def look(self, far: FarSegments) -> None:
        """Adds to the index what other machines stored, and takes from it what they removed. Raises OSError, StorageError."""
        known = await self._reception.over(lambda store: store.index.names())
        if known is not None:
            found = await self._run(lambda: survey(far, known, far.names(), everything=True))
            await self._reception.over(lambda store: store.adopt(found))

    async def _told(self, what: Callable[[], Awaitable[None]]) -> bool:
        """Whether it could be done. What fails is said once, and when it works again."""
        try:
            await what()
        except (OSError, StorageError) as error:
            self._says(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - the loop must go on
            self._says(f"{type(error).__name__}: {error}")
            return False
        self._says("")
        return True

    def _says(self, why: str) -> None:
        if bool(why) == self._away:
            return
        self._away = bool(why)
        self._metrics.away.set(int(self._away))
        if why:
            self._log.error("segments of events can't be moved to object storage", error=why)
        else:
            self._log.info("segments of events are moved to object storage again")

    async def _run(self, what: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)
