"""Calls of a Redis server that several machines share. A server that does not answer is not asked again for a while.

redis-py is imported when the first client is made: a process that needs no Redis needs no redis-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from headrace.hop.config import ConfigError

# After a failure nobody asks for so long: otherwise each request would wait for the timeout.
_PAUSE_S = 1.0
_CONNECTIONS = 16


class RedisDownError(Exception):
    """Redis did not do it. `asked` False: it was not even asked, as it failed a moment ago."""

    def __init__(self, message: str, *, asked: bool) -> None:
        super().__init__(message)
        self.asked = asked


class RedisCalls:
    """Pipelines of commands. `url`: redis://…, rediss://… or unix://…; `clock`: monotonic seconds. One event loop."""

    def __init__(
        self, url: str, timeout_s: float, clock: Callable[[], float], *, pause_s: float = _PAUSE_S
    ) -> None:
        """Raises ConfigError if the address can't be read."""
        from redis import asyncio as redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
        from redis.exceptions import RedisError

        self._errors: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)
        self._timeout_s = timeout_s
        self._clock = clock
        self._pause_s = pause_s
        self._again = float("-inf")
        try:
            # Blocking: when many ask at once, they wait for a connection instead of failing.
            pool = redis.BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
            )
            self._client: Any = redis.Redis.from_pool(pool)
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
        try:
            async with asyncio.timeout(self._timeout_s):
                replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        except self._errors as error:
            self._again = self._clock() + self._pause_s
            raise RedisDownError(f"{type(error).__name__}: {error}", asked=True) from error
        return replies

    async def close(self) -> None:
        """Ends the connections."""
        with suppress(*self._errors):
            await self._client.aclose()
