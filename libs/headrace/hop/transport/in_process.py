"""Services hosted in this process, called without a socket or serialisation, through the same layers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from headrace.hop import config
from headrace.hop.call import LOCAL_PEER, Call
from headrace.hop.client import faults
from headrace.hop.client.outgoing import Outgoing
from headrace.hop.definition import Service
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.server.binding import Bound, bind, wrong_reply
from headrace.hop.server.stack import Handler, ServerStack, server_stack
from headrace.hop.transport.wire_errors import unknown_method

# What is found of a service that is not hosted here, and of a method that is not served.
_NOWHERE: tuple[dict[str, tuple[bool, Handler]], None] = {}, None
_NOTHING = False, None


class LocalServers:
    """The hosted services by name. Messages pass by reference: neither side changes a message after handing it over."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        # With the methods by path, as (whether it reads `Call.payload`, its handler).
        self._servers: dict[str, tuple[dict[str, tuple[bool, Handler]], ServerStack]] = {}

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
        stack = server_stack(name, settings, (telemetry or self._telemetry).named(name))
        self._servers[name] = {p: (b.takes_payload, _handler(b)) for p, b in bound.items()}, stack

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

    def call(self, callee: str, out: Outgoing) -> Awaitable[Any]:
        """Serves one unary call in the caller's own task.

        Raises Fault; UNAVAILABLE / UNREACHABLE if the callee is not hosted here.
        """
        now, path = time.monotonic(), out.method.path
        methods, stack = self._servers.get(callee, _NOWHERE)
        takes_payload, handler = methods.get(path, _NOTHING)
        request, payload = out.load(now) if takes_payload else (out.prepare(now), None)
        if out.deadline <= now:
            raise faults.deadline_passed(callee)
        out.sent = True
        if stack is None:
            message = f"{callee} is not hosted in this process; give its client another target than local."
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, message, metadata={"service": callee})
        if handler is None:
            raise unknown_method(path)
        call = Call(path, LOCAL_PEER, out.deadline, dict(out.metadata), payload)
        return stack.serve(call, handler, request)


def _handler(bound: Bound) -> Handler:
    """Serves a unary method, from message to message."""
    method, response = bound.method, bound.method.response

    def convert(reply: Any) -> Any:
        if type(reply) is bytes:
            return response.FromString(reply)
        if not isinstance(reply, response):
            raise wrong_reply(method, reply)
        return reply

    return Handler(bound.serve, response, convert)
