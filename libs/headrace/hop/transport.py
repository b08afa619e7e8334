"""How a call reaches one replica: over a gRPC channel, or straight to a service hosted in this process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.hop import faults
from headrace.hop.errors import Fault, Reason
from headrace.hop.outgoing import Outgoing
from headrace.hop.wire_errors import fault_of_rpc

if TYPE_CHECKING:
    from headrace.hop.client_settings import ClientRules
    from headrace.hop.local import LocalServers


class Transport(Protocol):
    """One replica's way. `call` raises Fault; it stamps the request at the last moment by `Outgoing.prepare`."""

    async def call(self, out: Outgoing) -> Any: ...

    async def close(self) -> None: ...


# Retries, balancing and service configs are hop's (replicas.py, layers/retry.py): one place decides.
_FIXED_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.lb_policy_name", "pick_first"),
    # A restarted callee is found again within half a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 400),
    # A peer that vanished without a word (power, network) is noticed even between calls.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Two clients of one callee must not share a connection: closing or overloading one leaves the other alone.
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcTransport:
    """A channel to one address."""

    def __init__(self, callee: str, address: str, settings: ClientRules) -> None:
        self._callee = callee
        self._channel = _channel(address, settings)
        self._stubs: dict[str, Any] = {}

    async def call(self, out: Outgoing) -> Any:
        method = out.method
        stub = self._stubs.get(method.path)
        if stub is None:
            # Bytes in, bytes out: a reply that cannot be parsed must become our Fault, and the breaker's business.
            stub = self._stubs[method.path] = self._channel.unary_unary(method.path)
        now = time.monotonic()
        data = out.prepare(now).SerializeToString()
        if out.deadline <= now:
            raise faults.deadline_passed(self._callee)
        out.sent = True
        try:
            raw = await self._exchange(stub, data, out.deadline - now)
            return method.response.FromString(raw)
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None
        except DecodeError:
            raise faults.malformed(self._callee) from None

    async def _exchange(self, stub: Any, data: bytes, timeout: float) -> bytes:
        try:
            call = stub(data, timeout=timeout)
        except grpc.aio.UsageError:
            raise faults.closed(self._callee) from None  # the replica went while the call was on its way here
        try:
            raw: bytes = await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody cancelled us: the channel was closed under the call.
            raise faults.closed(self._callee) from None
        return raw

    def _fault(self, error: grpc.aio.AioRpcError) -> Fault:
        fault = fault_of_rpc(error)
        if fault.metadata:
            return fault
        # gRPC's own words about connections name paths and addresses, which are not for callers.
        if fault.reason == Reason.REASON_UNREACHABLE:
            return faults.unreachable(self._callee)
        if fault.reason == Reason.REASON_DEADLINE_PASSED:
            return faults.deadline_passed(self._callee)
        return fault

    async def close(self) -> None:
        await self._channel.close()


class LocalTransport:
    """The callee's handlers in this process: same layers on both sides, no socket and no serialisation."""

    def __init__(self, callee: str, servers: LocalServers) -> None:
        self._callee = callee
        self._servers = servers

    async def call(self, out: Outgoing) -> Any:
        now = time.monotonic()
        request = out.prepare(now)
        if out.deadline <= now:
            raise faults.deadline_passed(self._callee)
        out.sent = True
        return await self._servers.call(self._callee, out.method, request, out.deadline)

    async def close(self) -> None: ...


def _channel(address: str, settings: ClientRules) -> grpc.aio.Channel:
    size = settings.max_message_bytes
    options: list[tuple[str, str | int]] = [
        *_FIXED_OPTIONS,
        ("grpc.max_send_message_length", size),
        ("grpc.max_receive_message_length", size),
    ]
    if settings.tls is None:
        return grpc.aio.insecure_channel(address, options)  # noqa: TID251 - made here and nowhere else
    from headrace.hop.tls import client_credentials

    if settings.server_name:
        options.append(("grpc.ssl_target_name_override", settings.server_name))
    return grpc.aio.secure_channel(address, client_credentials(settings.tls), options)  # noqa: TID251 - as above
