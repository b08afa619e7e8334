"""Services hosted in this process, called without a socket or serialisation, through the same layers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.message import Message

from headrace.hop import config
from headrace.hop.call import CURRENT, LOCAL_PEER, Call, InProcessPayload, Method
from headrace.hop.definition import Service
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.binding import Bound, bind, streams, wrong_reply
from headrace.hop.server.stack import ServerStack, server_stack

Resp = TypeVar("Resp", bound=Message)


class LocalServers:
    """The hosted services by name. Messages pass by reference: neither side changes a message after handing it over."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._servers: dict[str, tuple[dict[str, Bound], ServerStack]] = {}

    def names(self) -> list[str]:
        """Names of the services hosted now."""
        return list(self._servers)

    def add(
        self,
        name: str,
        services: Sequence[Service],
        settings: config.Server,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Hosts services under the name of their definition. Raises ValueError if the name is taken."""
        if name in self._servers:
            raise ValueError(f"{name} is hosted in this process already")
        bound = bind(services)
        stack = server_stack(name, settings, (telemetry or self._telemetry).named(name), streams(bound))
        self._servers[name] = bound, stack

    async def remove(self, name: str, drain_s: float) -> None:
        """Ends the hosting: later calls get UNAVAILABLE; waits up to `drain_s` for those in flight."""
        _, stack = self._servers[name]
        stack.shed.close()
        try:
            await asyncio.wait_for(stack.shed.idle(), drain_s)
        except TimeoutError:
            self._telemetry.log.warning(
                "hosted service closed under calls", callee=name, calls=stack.shed.in_flight
            )
        del self._servers[name]

    def in_flight(self, name: str) -> int:
        """Calls that a hosted service is serving."""
        return self._servers[name][1].shed.in_flight

    def takes_payload(self, callee: str, path: str) -> bool:
        """Whether the method at `path` of a hosted service reads `Call.payload`."""
        found = self._servers.get(callee)
        bound = found[0].get(path) if found else None
        return bound is not None and bound.takes_payload

    async def call(
        self,
        callee: str,
        method: Method[Any, Resp],
        request: Message,
        deadline: float,
        metadata: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        payload: InProcessPayload | None = None,
    ) -> Resp:
        """Serves one unary call in the caller's own task; `deadline` in monotonic seconds.

        Raises Fault; UNAVAILABLE / UNREACHABLE if the callee is not hosted here.
        """
        found = self._servers.get(callee)
        if found is None:
            raise _not_here(callee)
        bound, stack = found
        target = bound.get(method.path)
        if target is None or target.method.client_streaming or target.method.server_streaming:
            raise _no_method(callee, method)

        async def handle(call: Call) -> Resp:
            reply = await target.serve(request, call)
            if type(reply) is bytes:
                return method.response.FromString(reply)
            if not isinstance(reply, method.response):
                raise wrong_reply(method, reply)
            return reply

        call = Call(method.path, LOCAL_PEER, deadline, dict(metadata), payload=payload)
        token = CURRENT.set(call)
        try:
            reply: Resp = await stack.serve(call, handle)
            return reply
        finally:
            CURRENT.reset(token)


def _not_here(callee: str) -> Fault:
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_UNREACHABLE,
        f"{callee} is not hosted in this process; give its client another target than local.",
        metadata={"service": callee},
    )


def _no_method(callee: str, method: Method[Any, Any]) -> Fault:
    return Fault(
        Code.UNIMPLEMENTED,
        Reason.REASON_METHOD_UNKNOWN,
        f"{callee} does not serve {method.path}.",
        metadata={"service": callee, "method": method.path},
    )
