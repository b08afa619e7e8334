"""Brings what waits in the journal to the monitoring service, and removes it when that has stored it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from headrace.hop.errors import Fault
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.commits import Codec, Committer
from services.router.events.regulated.journal import Journal, Row
from services.router.facts.sender import is_final

_CALL_S = 10.0
_MESSAGE_BYTES = 1 << 20
_LAST_S = 0.5


class Collection:
    """Runs beside the requests. `clock`: monotonic seconds."""

    def __init__(
        self,
        journal: Journal,
        codec: Codec,
        committer: Committer,
        metrics: EventMetrics,
        every_s: float,
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._journal = journal
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
            why = ""
            try:
                await self.collect()
            except Fault as fault:
                why = fault.message
            except Exception as error:  # noqa: BLE001 - the loop must go on: what waits is still there
                why = f"{type(error).__name__}: {error}"
            if why and not self._failing:
                self._log.warning("the journal can't be collected; it grows meanwhile", error=why)
            elif self._failing and not why:
                self._log.info("the journal is collected again")
            self._failing = bool(why)

    async def close(self) -> None:
        """Brings what waits, if it can be done quickly; else it waits for the next router with this folder. `run` must have
        ended."""
        try:
            async with asyncio.timeout(_LAST_S):
                await self.collect()
        except Exception as error:  # noqa: BLE001 - the router must stop, whatever happens
            self._log.warning(
                "the journal could not be emptied at the stop", error=f"{type(error).__name__}: {error}"
            )

    async def collect(self) -> None:
        """All that waits, once. Raises Fault, OSError."""
        self._metrics.works.set(await asyncio.to_thread(self._journal.writable))
        try:
            while rows := await asyncio.to_thread(self._journal.oldest, _MESSAGE_BYTES):
                await self._bring(rows)
        finally:
            self._metrics.uncollected.set(await asyncio.to_thread(self._journal.size_bytes))

    async def _bring(self, rows: Sequence[Row]) -> None:
        why = "" if all(row.sound for row in rows) else "its checksum is wrong"
        try:
            if not why:
                # The bytes of several messages, one after the other, are one message with the groups of all.
                events = self._codec.decode(b"".join(row.content for row in rows))
                await self._committer.commit(events, self._clock() + _CALL_S)
        except ValueError as error:
            why = str(error)
        except Fault as fault:
            if not is_final(fault):
                raise
            why = fault.message
        if why and len(rows) > 1:
            for row in rows:
                await self._bring([row])
            return
        await asyncio.to_thread(self._journal.settle, rows, why)
        if why:
            self._log.error(
                "a message of the journal can't be read; it was set aside", row=rows[0].id, error=why
            )
