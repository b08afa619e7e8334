"""Calls that come while others are served are served together: one read, one assessment, and a part of the result for each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Item = TypeVar("Item")
Reply = TypeVar("Reply")

# A group leaves when no call has come in so many iterations of the event loop: gRPC hands over one call in several iterations.
_QUIET = 6
_MAX_ITEMS = 64
# Calls wait if groups have more calls than this, and one in so many calls otherwise. Weight of the newest group.
_WORTH = 1.5
_SINGLE = 31
_WEIGHT = 0.2


class _Group(Generic[Item, Reply]):
    """Calls that wait. `seen`: how many there were at the last check; `quiet`: iterations since then."""

    __slots__ = ("items", "quiet", "replies", "seen")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.replies: list[asyncio.Future[Reply]] = []
        self.seen = self.quiet = 0


class CallGroups(Generic[Item, Reply]):
    """Serves items of one key together. Used on one event loop. A single caller waits seldom."""

    def __init__(self, serve: Callable[[Sequence[Item]], Awaitable[Sequence[Reply]]]) -> None:
        """`serve`: a reply for each item. If it raises for several items, each of them is served alone."""
        self._serve = serve
        self._groups: dict[Hashable, _Group[Item, Reply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = 0
        # The size of a group, on average of late; and the calls since the last that waited for others.
        self._size = 1.0
        self._single = 0

    async def submit(self, key: Hashable, item: Item) -> Reply:
        """The item's reply. `key`: None: it is served alone. Raises what `serve` raises for the item alone."""
        self._calls += 1
        try:
            if key is None or not self._may_gather():
                [reply] = await self._serve([item])
                return reply
            return await self._wait(key, item)
        finally:
            self._calls -= 1

    def _may_gather(self) -> bool:
        """Whether others are likely to come in a moment; a single caller is let wait from time to time, to find out."""
        if self._calls > 1 or self._size > _WORTH or self._single == _SINGLE:
            self._single = 0
            return True
        self._single += 1
        return False

    def _wait(self, key: Hashable, item: Item) -> asyncio.Future[Reply]:
        loop = asyncio.get_running_loop()
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
            # An empty context: the read belongs to several calls, so it must not run in the span of one.
            loop.call_soon(self._check, key, group, context=Context())
        reply: asyncio.Future[Reply] = loop.create_future()
        group.items.append(item)
        group.replies.append(reply)
        return reply

    def _check(self, key: Hashable, group: _Group[Item, Reply]) -> None:
        count = len(group.items)
        group.quiet = 0 if count > group.seen else group.quiet + 1
        group.seen = count
        loop = asyncio.get_running_loop()
        if group.quiet < _QUIET and count < _MAX_ITEMS:
            loop.call_soon(self._check, key, group)
            return
        del self._groups[key]
        self._size += _WEIGHT * (count - self._size)
        task = loop.create_task(self._answer(group.items, group.replies))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, items: Sequence[Item], futures: Sequence[asyncio.Future[Reply]]) -> None:
        try:
            replies = await self._serve(items)
        except Exception as error:  # noqa: BLE001 - each caller gets what its own item raises
            if len(items) > 1:
                await asyncio.gather(*[self._answer([i], [f]) for i, f in zip(items, futures, strict=True)])
            elif not futures[0].done():
                futures[0].set_exception(error)
            return
        for future, reply in zip(futures, replies, strict=True):
            if not future.done():
                future.set_result(reply)
