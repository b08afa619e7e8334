"""Follows a Redis Stream of feature events and writes them into the online store; the newest event time wins.

An event is an entry with two fields: `view` (a feature view or a push source) and `row` (a JSON object with join keys,
features and event time). Events are acknowledged after they are written. So after a crash an event may be written twice,
which changes nothing. An event that no retry can write goes to the stream `<stream>:rejected`, with the reason.

Imports Feast, which takes seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from redis import asyncio as redis
from redis.exceptions import ResponseError

from headrace.featurestore.writer import WriteError, open_store, push
from headrace.state.redis import connecting
from services.features.config import Stream

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from services.features.metrics import FeaturesMetrics

Row: TypeAlias = dict[str, Any]
_PAUSES_S = (0.2, 0.5, 1.0)
_REJECTED_KEPT = 10_000
_BLOCK_MS = 500
_SOCKET_S = 2.0
_ABANDONED_MS = 60_000


class StreamConsumer:
    """One member of a consumer group. It has its own FeatureStore, because Feast's is not safe to use from two threads."""

    def __init__(
        self,
        stream: Stream,
        repo: Path,
        threads: ThreadPoolExecutor,
        metrics: FeaturesMetrics,
        log: FilteringBoundLogger,
    ) -> None:
        """Raises WriteError if `repo` is no feature repository."""
        self._store = open_store(repo)
        self._url = stream.url
        self._stream = stream.name
        self._group = stream.group
        self._member = stream.member
        self._batch = stream.batch
        self._threads = threads
        self._metrics = metrics
        self._log = log

    async def follow(self) -> None:
        """Consumes until cancelled; retries after every failure."""
        pool = redis.ConnectionPool(**connecting(self._url), socket_timeout=_SOCKET_S)
        async with redis.Redis.from_pool(pool) as self._client:
            await self._follow()

    async def _follow(self) -> None:
        failures = 0
        # First come the events that this member read before it ended, but did not acknowledge.
        position = "0"
        while True:
            try:
                await self._join()
                while True:
                    position = await self._round(position)
                    failures = 0
            except Exception as error:  # noqa: BLE001 - a store may raise anything, and a consumer must not end
                if not failures:
                    self._log.warning("feature events wait: they can't be read or written", error=str(error))
                position = "0"
                await asyncio.sleep(_PAUSES_S[min(failures, len(_PAUSES_S) - 1)])
                failures += 1

    async def _join(self) -> None:
        try:
            await self._client.xgroup_create(self._stream, self._group, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        # Takes over events that another member read and did not acknowledge for a long time.
        await self._client.xautoclaim(
            self._stream, self._group, self._member, _ABANDONED_MS, count=self._batch
        )

    async def _round(self, position: str) -> str:
        """Reads and writes one batch. Returns where to read next: "0" for events that were read before, ">" for new ones."""
        found: Any = await self._client.xreadgroup(
            self._group, self._member, {self._stream: position}, count=self._batch, block=_BLOCK_MS
        )
        entries = found[0][1] if found else []
        if not entries:
            return ">"
        by_view: dict[str, list[tuple[bytes, Row]]] = {}
        for number, fields in entries:
            try:
                view, row = _parsed(fields)
            except ValueError as error:
                await self._reject(number, fields, str(error))
            else:
                by_view.setdefault(view, []).append((number, row))
        for view, events in by_view.items():
            await self._write_events(view, events)
        return position

    async def _write_events(self, view: str, events: list[tuple[bytes, Row]]) -> None:
        loop = asyncio.get_running_loop()
        rows = [row for _, row in events]
        try:
            pushed = await loop.run_in_executor(self._threads, push, self._store, view, rows)
        except WriteError as error:
            if len(events) == 1:
                await self._reject(
                    events[0][0], {b"view": view.encode(), b"row": json.dumps(rows[0]).encode()}, str(error)
                )
                return
            # One bad event must not cause the rejection of the others.
            for event in events:
                await self._write_events(view, [event])
            return
        self._metrics.consumed("written", pushed.written)
        self._metrics.consumed("older", pushed.older)
        await self._client.xack(self._stream, self._group, *[number for number, _ in events])

    async def _reject(self, number: bytes, fields: Mapping[bytes, bytes] | None, why: str) -> None:
        self._log.warning("a feature event is rejected", entry=number.decode(), why=why)
        kept: dict[Any, Any] = {**(fields or {}), b"why": why.encode()}
        await self._client.xadd(f"{self._stream}:rejected", kept, maxlen=_REJECTED_KEPT)
        await self._client.xack(self._stream, self._group, number)
        self._metrics.consumed("rejected", 1)


def _parsed(fields: Mapping[bytes, bytes] | None) -> tuple[str, Row]:
    """View and row of an event. Raises ValueError."""
    # An entry that was deleted while it was pending has no fields.
    view, text = (fields or {}).get(b"view"), (fields or {}).get(b"row")
    if not view or text is None:
        raise ValueError("an event needs the fields `view` and `row`")
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError("`row` is no JSON object")  # noqa: TRY004 - a fault of the event
    return view.decode(errors="replace"), row
