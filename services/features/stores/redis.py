"""Reads Feast's Redis online store directly: one HMGET for each key, for all views with the same keys.

The commands of one event-loop iteration are sent together. A Redis key is the entity key followed by the project's name. Its
hash has one field per view and feature, and one field per view with the event time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from headrace.state.redis_address import ManyServers
from services.features.feast.layout import redis_nodes
from services.features.feast.repository import Repository
from services.features.stores.answers import answered
from services.features.stores.online_store import KeyQuery, OnlineStore, Rows, StoreError, StoreTimeoutError
from services.features.stores.redis_client import RedisClientStore
from services.features.stores.redis_connection import RedisConnection, pack
from services.features.stores.redis_layout import RedisLayout

_PLAIN = {"db", "username", "password", "ssl", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_TLS = {"ssl_cert_reqs", "ssl_check_hostname"}
# Ignored: this service sets its own timeouts, and it uses one connection without health checks.
_NOT_NEEDED = {
    "socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry", "retry_on_timeout", "retry_on_error",
    "health_check_interval", "max_connections", "client_name", "protocol", "decode_responses",
}  # fmt: skip
# The time limit of one attempt to connect, including login and setup.
_CONNECT_S = 0.5


def open_store(repository: Repository, _threads: ThreadPoolExecutor, timeout_s: float) -> OnlineStore:
    """See registry.Open: a single server is read over our own connection, several through redis-py."""
    nodes, options = redis_nodes(repository)
    layout, online = RedisLayout(repository.project), repository.online
    places = tuple((node["host"], int(node.get("port", 6379))) for node in nodes)
    kind = online.get("redis_type", "redis")
    if kind == "redis":
        if odd := sorted(set(options) - _PLAIN - _TLS - _NOT_NEEDED):
            raise StoreError(f"its connection string has {', '.join(odd)}; leave them out")
        return RedisStore(*places[0], options, layout)
    master = str(online.get("sentinel_master", "mymaster")) if kind == "redis_sentinel" else ""
    # Sentinels get what is left of the options: they have no account and no database of the servers.
    account = options.pop("username", None), options.pop("password", None)
    many = ManyServers(places, master, int(options.pop("db", 0)), bool(options.pop("ssl", False)), *account)
    return RedisClientStore(many, options, layout, timeout_s)


class RedisStore:
    """An `OnlineStore` on one Redis server."""

    def __init__(self, host: str, port: int, options: Mapping[str, Any], layout: RedisLayout) -> None:
        """Connects at the first read. `options`: from Feast's connection string; `open_store` has checked their names."""
        self._host = host
        self._port = port
        self._options = options
        self._layout = layout
        self._wire: RedisConnection | None = None
        self._connecting: asyncio.Task[RedisConnection] | None = None
        self._tell: Callable[[bytes], None] | None = None
        self._epochs = 0
        self._tracked = False

    def watch(self, changed: Callable[[bytes], None]) -> None:
        self._tell = changed

    def epoch(self) -> int:
        """See online_store.OnlineStore: Redis reports changes as long as one connection stays open."""
        return self._epochs if self._tracked and self._wire is not None and not self._wire.closed else -1

    async def read(self, asks: Sequence[KeyQuery], timeout_s: float) -> Sequence[Rows]:
        commands, count = self._layout.commands(asks)
        wire = self._wire
        try:
            if wire is not None and not wire.closed:
                replies = await answered(wire.ask(commands, count), timeout_s, "Redis")
            else:
                async with asyncio.timeout(timeout_s):
                    wire = await self._connected()
                    replies = await wire.ask(commands, count)
        except (TimeoutError, StoreTimeoutError):
            # Late replies would delay the replies to other reads, and a server that hangs may never close the connection.
            if wire is not None:
                wire.close()
            raise StoreTimeoutError("Redis did not answer in time") from None
        except (OSError, ssl.SSLError) as error:
            raise StoreError(f"can't reach Redis: {error}") from error
        try:
            return self._layout.rows(asks, replies)
        except StoreError:
            if not any(isinstance(reply, Exception) for reply in replies):
                # The replies do not match the commands, so all later replies would be wrong too.
                wire.close()
            raise

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError, StoreError, OSError):
                await self._connecting
        if self._wire is not None:
            self._wire.close()

    async def _connected(self) -> RedisConnection:
        """Opens a connection. Concurrent callers share one attempt; it continues when a caller is cancelled."""
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(_retrieved)
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> RedisConnection:
        # Shorter than the kernel's own timeout: a server that is up again must be found within seconds.
        async with asyncio.timeout(_CONNECT_S):
            return await self._greeted()

    async def _greeted(self) -> RedisConnection:
        loop = asyncio.get_running_loop()
        # Made anew for each connection, as certificates are replaced while the service runs.
        tls = _context(self._options) if self._options.get("ssl") else None
        _, wire = await loop.create_connection(
            lambda: RedisConnection(self._changed),
            self._host,
            self._port,
            ssl=tls,
            server_hostname=self._host if tls else None,
        )
        try:
            self._tracked = await self._greet(wire)
        except BaseException:
            wire.close()
            raise
        self._epochs += 1
        self._wire = wire
        return wire

    async def _greet(self, wire: RedisConnection) -> bool:
        """Authenticates and selects the database. Returns whether Redis will report changes."""
        user, password = self._options.get("username"), self._options.get("password")
        account = [] if password is None else [str(user or "default"), str(password)]
        (hello,) = await wire.ask(pack("HELLO", 3, *(["AUTH", *account] if account else [])), 1)
        if isinstance(hello, Exception) and account:
            # Redis before version 6 does not know HELLO.
            await _demand(wire, "AUTH", *(account if user else account[1:]))
        if database := self._options.get("db"):
            await _demand(wire, "SELECT", int(database))
        if isinstance(hello, Exception):
            return False
        (tracking,) = await wire.ask(pack("CLIENT", "TRACKING", "ON"), 1)
        return not isinstance(tracking, Exception)

    def _changed(self, keys: list[bytes] | None) -> None:
        if keys is None:
            self._epochs += 1
        elif self._tell is not None:
            for key in keys:
                self._tell(self._layout.entity_key(key))


async def _demand(wire: RedisConnection, *words: str | int) -> None:
    (reply,) = await wire.ask(pack(*words), 1)
    if isinstance(reply, Exception):
        raise StoreError(f"Redis refuses {words[0]}: {reply}")


def _retrieved(task: asyncio.Task[RedisConnection]) -> None:
    """Retrieves a failure that no caller waits for any more, so that asyncio does not log it as never retrieved."""
    if not task.cancelled():
        task.exception()


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    required = str(options.get("ssl_cert_reqs", "required")).lower()
    context.check_hostname = required == "required" and options.get("ssl_check_hostname", True) is not False
    context.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(
        required, ssl.CERT_REQUIRED
    )
    if options.get("ssl_certfile"):
        context.load_cert_chain(options["ssl_certfile"], options.get("ssl_keyfile"))
    return context
