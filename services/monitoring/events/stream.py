"""Events that routers added to a Redis stream: stored, then acknowledged. Several monitoring services share the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from headrace.events import messages, stream
from headrace.state.redis import RedisCalls, RedisDownError
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.reception import Reception
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

# Messages at once; how long Redis waits for the first of them; the pause after a failure.
_COUNT, _WAIT_MS = 16, 500
_AGAIN_S = 1.0
# Another reader's messages are taken over after this time, which is looked at as often.
CLAIM_S = 30.0


class StreamReader:
    """`reader`: the name of this process in the group; `clock`: monotonic seconds."""

    def __init__(
        self,
        calls: RedisCalls,
        reader: str,
        reception: Reception,
        metrics: EventMetrics,
        clock: Callable[[], float],
        log: Log,
        *,
        claim_s: float = CLAIM_S,
    ) -> None:
        self._calls = calls
        self._reader = reader
        self._reception = reception
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._claim_s = claim_s
        self._claim_at = float("-inf")
        # Whether this reader may have messages that it has not stored.
        self._again = True
        self._away = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.take_next()
                self._says("")
            except (RedisDownError, StorageError) as error:
                self._again = True
                self._says(str(error))
                await asyncio.sleep(_AGAIN_S)
            except Exception as error:  # noqa: BLE001 - the loop must go on
                self._again = True
                self._says(f"{type(error).__name__}: {error}")
                await asyncio.sleep(_AGAIN_S)

    async def take_next(self) -> int:
        """Stores some messages; returns how many. Raises RedisDownError, StorageError: then they come again."""
        if self._clock() >= self._claim_at:
            await self._claim()
        command = stream.read(self._reader, _COUNT, again=self._again, wait_ms=_WAIT_MS)
        [reply] = await self._ask([command])
        found = stream.contents(reply)
        if not found:
            self._again = False
            return 0
        for entry, content in found:
            if content is not None:
                await self._store(entry, content)
        await self._ask(stream.done([entry for entry, _ in found]))
        return len(found)

    async def close(self) -> None:
        await self._calls.close()

    async def _claim(self) -> None:
        # Also after Redis has lost it; an error says that it is there.
        await self._calls.ask([stream.found()])
        [reply] = await self._ask([stream.claim(self._reader, int(self._claim_s * 1000), _COUNT)])
        self._again = self._again or bool(reply[1])
        self._claim_at = self._clock() + (0.0 if reply[1] else self._claim_s)

    async def _store(self, entry: bytes, content: bytes) -> None:
        try:
            request = messages.parsed(content)
            groups, refused = messages.readable(request)
        except Exception as error:  # noqa: BLE001 - it would come again for ever
            self._metrics.unreadable_messages.inc()
            told = f"{type(error).__name__}: {error}"
            self._log.error(
                "a message of events can't be read; it is dropped", entry=entry.decode(), error=told
            )
            return
        # On the disk before it is acknowledged.
        await self._reception.take(request.replica, request.epoch, request.noted_count, groups, durable=True)
        self._reception.refused(refused)

    async def _ask(self, commands: list[stream.Command]) -> list[Any]:
        replies = list(await self._calls.ask(commands))
        for reply in replies:
            if isinstance(reply, Exception):
                # Such as a group that is gone.
                self._claim_at = float("-inf")
                raise RedisDownError(str(reply), asked=True)
        return replies

    def _says(self, why: str) -> None:
        if bool(why) == self._away:
            return
        self._away = bool(why)
        self._metrics.stream_failing.set(int(self._away))
        if why:
            self._log.error("the stream of events can't be stored", error=why)
        else:
            self._log.info("the stream of events is stored again")
