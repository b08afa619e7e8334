"""The gRPC channel to one address: options, credentials, and a new channel when the certificates change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from headrace.hop.transport.tls import Pem, WatchedTls


# hop does retries and balancing itself (resilience/), so gRPC must not. Without a policy (of a service config), its retries only
# send again what no server has seen: a call that was about to leave when its connection ended (GOAWAY).
_FIXED_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.enable_retries", 1),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.lb_policy_name", "pick_first"),
    # Calls stay inside an installation: no proxy from the environment.
    ("grpc.enable_http_proxy", 0),
    # A restarted callee is found again within half a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 400),
    # A peer that vanished without closing the connection (power, network) is noticed within 15 s, while calls wait for it.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Two clients of one callee do not share a connection, so that problems of one do not affect the other.
    ("grpc.use_local_subchannel_pool", 1),
)
# For how long one try to connect may take, TLS handshake included. gRPC calls it a backoff, but it delays no try. Calls wait for
# it, so it leaves them time for another replica; a busy machine needs a tenth of a second for a handshake.
CONNECT_MS = 500
# How often certificate files are checked for changes, and how long calls on the old channel may take to end.
_WATCH_S = 5.0
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Security:
    """How channels of one client are secured. Neither given: plaintext, for sockets in a private directory.

    `tls`: mTLS from files, followed as they change. `credentials`: fixed ones instead. `server_name`: the name in
    the callee's certificate if the address does not say it.
    """

    tls: WatchedTls | None = None
    credentials: grpc.ChannelCredentials | None = None
    server_name: str = ""


class Channels:
    """The current channel to an address, and older ones that are being drained."""

    def __init__(self, address: str, security: Security, max_message_bytes: int) -> None:
        self._address = address
        self._security = security
        self._max_message_bytes = max_message_bytes
        self._stubs: dict[str, Callable[..., Any]] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._pem: Pem | None = None
        self._look_at = 0.0
        self._channel = self._open()

    def stub(self, path: str, now: float) -> Callable[..., Any]:
        """The unary method at a path, from bytes to bytes; `now` in monotonic seconds."""
        channel = self._current(now)
        if (found := self._stubs.get(path)) is None:
            found = self._stubs[path] = channel.unary_unary(path)
        return found

    async def close(self) -> None:
        """Closes all; calls in flight are cut off."""
        for task in list(self._draining):
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        await self._channel.close()

    def _current(self, now: float) -> grpc.aio.Channel:
        files = self._security.tls
        if files is not None and now >= self._look_at:
            self._look_at = now + _WATCH_S
            if files.look() is not self._pem:
                self._renew()
        return self._channel

    def _renew(self) -> None:
        old = self._channel
        self._channel = self._open()
        self._stubs.clear()
        task = asyncio.get_running_loop().create_task(_drain(old))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    def _open(self) -> grpc.aio.Channel:
        options, credentials, self._pem = _secured(self._security, self._max_message_bytes)
        if credentials is None:
            return grpc.aio.insecure_channel(self._address, options)  # noqa: TID251 - made here, nowhere else
        return grpc.aio.secure_channel(self._address, credentials, options)  # noqa: TID251 - as above


def blocking_channel(address: str, security: Security, max_message_bytes: int) -> grpc.Channel:
    """A channel for threads. It shows the certificate of now: make another one when the files change."""
    options, credentials, _ = _secured(security, max_message_bytes)
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


def _secured(
    security: Security, max_message_bytes: int
) -> tuple[list[tuple[str, str | int]], grpc.ChannelCredentials | None, Pem | None]:
    """Options and credentials of a new channel, and the certificate files behind them."""
    options = [
        *_FIXED_OPTIONS,
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
    ]
    if security.server_name:
        options.append(("grpc.ssl_target_name_override", security.server_name))
    if security.tls is None:
        return options, security.credentials, None
    # Imported here, because a client without TLS files needs no `ssl`.
    from headrace.hop.transport.tls import client_credentials

    pem = security.tls.look()
    return options, client_credentials(pem), pem


async def _drain(channel: grpc.aio.Channel) -> None:
    try:
        await channel.close(_GRACE_S)
    finally:
        await channel.close()
