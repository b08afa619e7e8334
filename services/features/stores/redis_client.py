"""Reads Feast's Redis online store through redis-py: clusters, Sentinel, and options that only redis-py supports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import asyncio as redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.features.stores.answers import answered
from services.features.stores.online_store import KeyQuery, Rows, StoreError
from services.features.stores.redis_layout import RedisLayout

Make = Callable[[], "tuple[Any, Sequence[Any]]"]
"""A client, and others that it uses and does not close."""


class RedisClientStore:
    """An `OnlineStore`. It gets no reports of changes, so it can't tell whether a cached row is current."""

    def __init__(self, make: Make, layout: RedisLayout) -> None:
        """`make`: creates new clients on the running event loop."""
        self._make = make
        self._layout = layout
        self._client: Any = None
        self._others: Sequence[Any] = ()

    def watch(self, changed: Callable[[bytes], None]) -> None:
        """See online_store.OnlineStore."""

    def epoch(self) -> int:
        """See online_store.OnlineStore."""
        return -1

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        """See online_store.OnlineStore."""
        if self._client is None:
            self._client, self._others = self._make()
        pipeline = self._client.pipeline(transaction=False)
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
        """See online_store.OnlineStore."""
        if self._client is not None:
            for client in (self._client, *self._others):
                await client.aclose()
            self._client, self._others = None, ()


def client_of(
    kind: str, nodes: Sequence[Mapping[str, Any]], options: Mapping[str, Any], master: str, timeout_s: float
) -> Make:
    """A function that creates the same client as Feast, but without retries. `kind`: Feast's `redis_type`."""
    given: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        **options,
        "retry": Retry(NoBackoff(), 0),
    }
    places = [(str(node["host"]), int(node["port"])) for node in nodes]
    if kind == "redis_cluster":
        return lambda: (RedisCluster(startup_nodes=[ClusterNode(*place) for place in places], **given), ())
    if kind == "redis_sentinel":
        return lambda: _watched(redis.Sentinel(places, **given), master)  # type: ignore[no-untyped-call]  # redis-py leaves it without types
    return lambda: (redis.Redis(host=places[0][0], port=places[0][1], **given), ())


def _watched(sentinel: Any, master: str) -> tuple[Any, Sequence[Any]]:
    return sentinel.master_for(master), sentinel.sentinels
