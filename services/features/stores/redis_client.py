"""Reads Feast's Redis online store on several servers (a cluster, or those that Sentinels watch), with the suite's client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from headrace.state.redis import client_of
from headrace.state.redis_address import ManyServers
from services.features.stores.answers import answered
from services.features.stores.online_store import KeyQuery, Rows, StoreError
from services.features.stores.redis_layout import RedisLayout


class RedisClientStore:
    """An `OnlineStore`. It gets no reports of changes, so it can't tell whether a cached row is current."""

    def __init__(
        self, many: ManyServers, options: Mapping[str, Any], layout: RedisLayout, timeout_s: float
    ) -> None:
        """`options`: of Feast's connection string; retries are left out. The client is made at the first read."""
        limits = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        self._many = many
        self._options = {**limits, **options, "retry": Retry(NoBackoff(), 0)}
        self._layout = layout
        self._clients: Sequence[Any] = ()

    def watch(self, changed: Callable[[bytes], None]) -> None:
        """See online_store.OnlineStore."""

    def epoch(self) -> int:
        return -1

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        if not self._clients:
            client, others = client_of(self._many, self._options)
            self._clients = (client, *others)
        pipeline = self._clients[0].pipeline(transaction=False)
        for view, keys in asks:
            fields = self._layout.fields(view)
            for key in keys:
                pipeline.hmget(self._layout.key(key), fields)
        try:
            replies = await answered(asyncio.ensure_future(pipeline.execute()), timeout_s, "Redis")
        except (RedisError, OSError) as error:
            raise StoreError(f"can't read from Redis: {error}") from error
        return self._layout.rows(asks, replies)

    async def close(self) -> None:
        clients, self._clients = self._clients, ()
        for client in clients:
            await client.aclose()
