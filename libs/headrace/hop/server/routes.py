"""Which handler serves which path of one gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc

from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.transport.wire_errors import cut, status_code, trailers

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs only


class Routes(grpc.GenericRpcHandler):
    """Finds the handler of a path. Until the service is built, every call gets an error that says to retry.

    Generated code registers health, reflection and channelz here instead of with the server: there, each of their
    methods would be one more future that grpc.aio awaits at every call.
    """

    def __init__(self, name: str) -> None:
        self._handlers: dict[str, Handler] | None = None
        self._others: list[grpc.GenericRpcHandler] = []
        self._starting = _refusal(_starting(name))

    def open(self, handlers: dict[str, Handler]) -> None:
        """Serves the methods in `handlers` (by path) from now on."""
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        path = handler_call_details.method
        if self._handlers is not None and (found := self._handlers.get(path)) is not None:
            return found
        for other in self._others:
            if (handler := other.service(handler_call_details)) is not None:
                return handler
        return self._starting if self._handlers is None else None

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """As of grpc.aio.Server, for generated registration code."""
        self._others += handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: object) -> None:
        """As of grpc.aio.Server; the same handlers came to `add_generic_rpc_handlers`."""


def _starting(name: str) -> Fault:
    return Fault(
        Code.UNAVAILABLE,
        Reason.REASON_UNREACHABLE,
        f"{name} is starting; try again in a moment.",
        metadata={"service": name},
        retry_after_s=0.2,
    )


def _refusal(fault: Fault) -> Handler:
    """Fails a call of any arity, without reading its messages."""

    async def refuse(_requests: object, context: Any) -> AsyncIterator[bytes]:
        await context.abort(status_code(fault.code), cut(fault.message), trailers(fault))
        yield b""  # not reached: makes this an async generator, as every streaming handler here

    return grpc.stream_stream_rpc_method_handler(refuse)
