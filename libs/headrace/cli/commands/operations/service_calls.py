"""Calls of a service on its own socket, which only the owner of the home can reach."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeVar

from google.protobuf.message import Message

from headrace.cli.console import fail
from headrace.cli.installation.layout import Layout
from headrace.hop import config
from headrace.hop.call import Method, methods_of
from headrace.hop.definition import Runtime
from headrace.hop.errors import Fault
from headrace.hop.process.telemetry import Telemetry
from headrace.hop.transport.in_process import LocalServers

_CALL_S = 60.0
Reply = TypeVar("Reply", bound=Message)


def ask(layout: Layout, service: str, rpc: Any, request: Message, reply: type[Reply]) -> Reply:
    """The answer of a service to one of its RPCs (its descriptor); ends the command if there is none."""
    try:
        return answer(layout, service, rpc, request, reply)
    except Fault as fault:
        fail(fault.message)


def answer(layout: Layout, service: str, rpc: Any, request: Message, reply: type[Reply]) -> Reply:
    """As `ask`, but raises the service's Fault."""
    folder = layout.listed(service)
    if not any(folder.glob("*.sock")):
        fail(f"no {service} service runs here as a process of its own; see: headrace status")
    found = asyncio.run(_call(service, f"unix-dir:{folder}", rpc, request))
    assert isinstance(found, reply), "the RPC has this reply"
    return found


async def _call(service: str, target: str, rpc: Any, request: Message) -> Message:
    telemetry = Telemetry("cli", config.Telemetry(log_level="error", trace_ratio=0))
    settings = config.ClientSettings(target=target)
    client = Runtime("cli", telemetry, LocalServers(telemetry)).dial(service, settings)
    try:
        methods = {method.name: method for method in methods_of(rpc.containing_service)}
        method: Method[Any, Any] = methods[rpc.name]
        found: Message = await client.unary(method)(request, deadline=time.monotonic() + _CALL_S)
        return found
    finally:
        await client.close()
        await telemetry.close()
