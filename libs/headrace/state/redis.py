"""Calls of a Redis server that several machines share. A server that does not answer is not asked again for a while.

redis-py is imported when the first client is made: a process that needs no Redis needs no redis-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from headrace.hop.config import ConfigError
from headrace.state.redis_address import ManyServers, many_servers, tls_options

# After a failure nobody asks for so long: otherwise each request would wait for the timeout.
_PAUSE_S = 1.0
_CONNECTIONS = 16
# The only script: WATCH would hold a connection for two round trips, and no pipeline over a cluster has it. It also tells Redis'
# clock, as TIME has no key by which a cluster could choose the server.
# ARGV: what must be there ("": nothing), what is written ("": it is removed), for how many ms. Without ARGV it is only read.
_COMPARE_AND_SET = """
local time = redis.call('TIME')
local now, found = time[1] * 1000 + math.floor(time[2] / 1000), redis.call('GET', KEYS[1])
if not ARGV[1] or (found or '') ~= ARGV[1] then return {now, 0, found} end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return {now, 1, found}
"""


class RedisDownError(Exception):
    """Redis did not do it. `asked` False: it was not even asked, as it failed a moment ago."""

    def __init__(self, message: str, *, asked: bool) -> None:
        super().__init__(message)
        self.asked = asked


class Found(NamedTuple):
    """The reply to `look` and `replace`: milliseconds of Redis' clock, whether the value was replaced, what was there before."""

    now_ms: int
    replaced: bool
    value: bytes | None


def look(key: str) -> tuple[Any, ...]:
    """The command that reads a value; its reply is for `Found`."""
    return "EVAL", _COMPARE_AND_SET, 1, key


def replace(key: str, expected: bytes | None, value: bytes | None, kept_ms: int) -> tuple[Any, ...]:
    """The command that replaces a value if it is `expected`, in one step; None: nothing is there. Its reply is for `Found`."""
    return "EVAL", _COMPARE_AND_SET, 1, key, expected or b"", value or b"", kept_ms


def may_pass(refusal: Exception) -> bool:
    """Whether a server refused for what it is now (full, loading, a replica …), not for what it was asked."""
    from redis import exceptions

    passing = (exceptions.OutOfMemoryError, exceptions.ReadOnlyError, exceptions.TryAgainError)
    return isinstance(refusal, (*passing, exceptions.ClusterDownError, exceptions.ConnectionError))


class RedisCalls:
    """Pipelines of commands. `url`: see redis_address.py; `clock`: monotonic seconds. One event loop.

    Several servers: a new master, or another layout of a cluster, is found within the pause after the first failure.
    """

    def __init__(
        self, url: str, timeout_s: float, clock: Callable[[], float], *, pause_s: float = _PAUSE_S
    ) -> None:
        """Raises ConfigError if the address can't be read."""
        try:
            from redis import asyncio as redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError:
            missing = (
                "the settings name a Redis, which needs the package redis: pip install 'headrace[redis]'"
            )
            raise ConfigError(f"redis: {missing}") from None

        self._errors: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
        self._timeout_s = timeout_s
        self._clock = clock
        self._pause_s = pause_s
        self._again = float("-inf")
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
        }
        # Others that the client uses and does not close.
        self._others: Sequence[Any] = ()
        try:
            many = many_servers(url)
            if many is None:
                # Blocking: when many ask at once, they wait for a connection instead of failing.
                pool = redis.BlockingConnectionPool(
                    max_connections=_CONNECTIONS, timeout=timeout_s, **connecting(url), **options
                )
                self._client: Any = redis.Redis.from_pool(pool)
            else:
                self._client, self._others = client_of(many, options)
        except (ValueError, RedisError) as error:
            raise ConfigError(f"redis: {error}") from None

    async def ask(self, commands: Sequence[tuple[Any, ...]], *, insist: bool = False) -> Sequence[Any]:
        """The replies to commands that are sent together; one that Redis refuses is an exception in the list.

        `insist`: ask even if it failed a moment ago. Raises RedisDownError.
        """
        if not insist and self._clock() < self._again:
            raise RedisDownError("Redis failed a moment ago", asked=False)
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        before = _cancellations()
        try:
            async with asyncio.timeout(self._timeout_s):
                replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        except self._errors as error:
            _end_if_cancelled_since(before)
            self._again = self._clock() + self._pause_s
            raise RedisDownError(f"{type(error).__name__}: {error}", asked=True) from error
        _end_if_cancelled_since(before)
        return replies

    async def close(self) -> None:
        """Ends the connections."""
        for client in (self._client, *self._others):
            with suppress(*self._errors):
                await client.aclose()


def connecting(url: str) -> dict[str, Any]:
    """What a pool of redis-py takes to connect to the one server of the address. Raises ValueError."""
    from redis.asyncio.connection import parse_url

    from headrace.state.redis_tls import RenewedConnection

    address, _, query = url.partition("?")
    made: dict[str, Any] = {**parse_url(address)}
    if address.startswith("rediss:"):
        made["connection_class"] = RenewedConnection
    return {**made, **tls_options(query, tls=address.startswith("rediss:"))}


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _end_if_cancelled_since(before: int) -> None:
    """redis-py may lose a cancellation that comes together with a reply; a loop that asks would then never end. What was
    cancelled earlier may still ask, to clean up."""
    if _cancellations() > before:
        raise asyncio.CancelledError


def client_of(many: ManyServers, options: Mapping[str, Any]) -> tuple[Any, Sequence[Any]]:
    """A client of redis-py with its `options`, and others that it uses and does not close."""
    from redis import asyncio as redis
    from redis.asyncio.cluster import ClusterNode, RedisCluster

    from headrace.state.redis_tls import RenewedWatchedConnection

    given = {**options, **many.options()}
    if not many.master:
        return RedisCluster(startup_nodes=[ClusterNode(*place) for place in many.places], **given), ()
    # The Sentinels have the timeouts and TLS of the servers, but neither their accounts nor databases.
    watching = {**options, "ssl": many.tls, **many.files}
    if many.tls:
        given["connection_class"] = RenewedWatchedConnection
    sentinel: Any = redis.Sentinel(list(many.places), sentinel_kwargs=watching, **given)  # type: ignore[no-untyped-call]  # redis-py leaves it without types
    return sentinel.master_for(many.master), sentinel.sentinels
