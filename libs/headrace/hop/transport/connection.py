"""How a call reaches one replica: over a gRPC channel, or straight to a service hosted in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from headrace.hop.client import faults
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.transport import clocks
from headrace.hop.transport.channels import Channels
from headrace.hop.transport.frames import HEALTH
from headrace.hop.transport.stream_client import NotSentError, StreamMultiplexer
from headrace.hop.transport.wire_errors import code_of, fault_of_rpc, unknown_method

if TYPE_CHECKING:
    from headrace.hop.transport.in_process import LocalServers


Metadata = Sequence[tuple[str, str]]
# grpc.health.v1 written by hand (an empty request; a reply whose field 1 is SERVING), to spare the SDK a dependency.
_SERVING = b"\x08\x01"
_SILENT = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED})


class Transport(Protocol):
    """The connection to one replica. `call` raises Fault; it builds the request at the last moment (`Outgoing.prepare`).

    `open` begins to connect, so that the first call need not wait: it returns at once and never fails.
    `answers`: whether the other side answers within `within_s` seconds and takes calls; does not raise.
    """

    def open(self) -> None: ...

    def call(self, out: Outgoing) -> Awaitable[Any]: ...

    async def answers(self, within_s: float) -> bool: ...

    async def close(self) -> None: ...


class GrpcTransport:
    """Calls to one address: on a connection for many calls if there are `streams`, else as RPCs over the channel.

    `stamped`: RPCs say when they were sent, for a callee of this installation (see `clocks`).
    """

    def __init__(
        self,
        callee: str,
        channels: Channels,
        streams: StreamMultiplexer | None = None,
        *,
        stamped: bool = False,
    ) -> None:
        self._callee = callee
        self._channels = channels
        self._streams = streams
        self._stamped = stamped

    def open(self) -> None:
        """Without streams the first call connects: a failed try would make gRPC refuse those that come soon after."""
        if self._streams is not None:
            self._streams.open()

    async def call(self, out: Outgoing) -> Any:
        now = time.monotonic()
        # Bytes in, bytes out: a reply that cannot be parsed must become our Fault, which the breaker counts.
        data = out.prepare(now).SerializeToString()
        if out.deadline <= now:
            raise faults.deadline_passed(self._callee)
        out.sent = True
        try:
            if self._streams is not None:
                try:
                    found = await self._streams.call(out.method.path, data, out.deadline, out.metadata, now)
                    return out.method.response.FromString(found)
                except NotSentError:
                    pass
            return out.method.response.FromString(
                await self._rpc(out.method.path, data, out.deadline, out.metadata, now)
            )
        except grpc.aio.AioRpcError as error:
            raise self._fault(error, out.method.path) from None
        except DecodeError:
            raise faults.malformed(self._callee) from None
        except grpc.aio.UsageError:
            # The channel was closed after the replica had been picked: it left the set.
            out.sent = False
            raise faults.unreachable(self._callee) from None

    async def answers(self, within_s: float) -> bool:
        """Asks for the health of the whole server. A server without a health service answers too."""
        now = time.monotonic()
        try:
            if self._streams is not None:
                try:
                    return await self._streams.call(HEALTH, b"", now + within_s, (), now) == _SERVING
                except NotSentError:
                    pass
            return await self._rpc(HEALTH, b"", now + within_s, (), now) == _SERVING
        except Fault as fault:
            return fault.code not in _SILENT
        except grpc.aio.AioRpcError as error:
            return code_of(error.code()) not in _SILENT
        except grpc.aio.UsageError:
            return False  # the channel is closed

    async def _rpc(
        self, path: str, data: bytes, deadline: float, metadata: Metadata, prepared: float
    ) -> bytes:
        now = time.monotonic()
        if self._stamped:
            metadata = (*metadata, *clocks.stamp(prepared, deadline))
        stub = self._channels.stub(path, now)
        try:
            raw: bytes = await stub(data, timeout=deadline - now, metadata=metadata)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # This task was not cancelled: the channel was closed during the call.
            raise faults.unreachable(self._callee) from None
        return raw

    def _fault(self, error: grpc.aio.AioRpcError, path: str) -> Fault:
        fault = fault_of_rpc(error)
        if fault.metadata:
            return fault
        if fault.code is Code.UNIMPLEMENTED:
            return unknown_method(path)
        # gRPC's own messages about connections contain paths and addresses, which callers must not see.
        if fault.reason == Reason.REASON_UNREACHABLE:
            return faults.unreachable(self._callee)
        if fault.reason == Reason.REASON_DEADLINE_PASSED:
            return faults.deadline_passed(self._callee)
        return fault

    async def close(self) -> None:
        if self._streams is not None:
            await self._streams.close()
        await self._channels.close()


class LocalTransport:
    """The callee's handlers in this process: same layers on both sides, no socket and no serialisation."""

    def __init__(self, callee: str, servers: LocalServers) -> None:
        self.call = partial(servers.call, callee)

    def open(self) -> None:
        """Nothing to connect."""

    async def answers(self, within_s: float) -> bool:  # noqa: ARG002 - at once
        """It is this process."""
        return True

    async def close(self) -> None: ...
