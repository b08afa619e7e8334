"""Servicers → callables and gRPC handlers, found by descriptor without generated registration code; the handler of each path."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from headrace.hop.call import Call, Method, Peer, methods_of
from headrace.hop.definition import Service
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.server.stack import Handler, Serve
from headrace.hop.transport import clocks, wire_errors

PeerOf = Callable[[Any], Peer]
# Serves one unary call, from the request's bytes to the reply's. Raises nothing but Fault and CancelledError.
Answer = Callable[[bytes, Call], Awaitable[bytes]]
RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # generic in the stubs only


@dataclass(frozen=True, slots=True)
class Bound:
    """A method and the servicer's callable that serves it."""

    method: Method[Any, Any]
    serve: Callable[[Any, Call], Any]
    takes_payload: bool = False


def bind(services: Iterable[Service]) -> dict[str, Bound]:
    """Methods of the services by path. Raises TypeError for one that is missing or of the wrong kind."""
    return {
        method.path: Bound(method, _callable(service.servicer, method), service.takes_payload)
        for service in services
        for method in methods_of(service.descriptor)
    }


def rpc_handler(bound: Bound, serve: Serve, peer_of: PeerOf) -> grpc.RpcMethodHandler[Any, Any]:
    """What grpc.aio calls for one method. Bytes in, bytes out: parsing happens inside the layers, so that
    garbage gets a clean answer and a loaded server refuses without parsing."""
    path, answer = bound.method.path, answering(bound, serve)

    async def behaviour(raw: Any, context: Any) -> bytes:
        call = _call(path, context, peer_of)
        try:
            found = await answer(raw, call)
        except Fault as fault:
            await _abort(context, call, fault)
            raise  # not reached: abort raises
        if call.trailing:
            context.set_trailing_metadata(tuple(call.trailing))
        return found

    return grpc.unary_unary_rpc_method_handler(behaviour)


def answering(bound: Bound, serve: Serve) -> Answer:
    """Serves a unary method, from the request's bytes to the reply's, for every transport."""
    method, handler, read = bound.method, bound.serve, _reader(bound.method)
    response = method.response

    def run(raw: bytes, call: Call) -> Awaitable[Any]:
        found: Awaitable[Any] = handler(read(raw), call)
        return found

    def convert(reply: Any) -> bytes:
        if not isinstance(reply, response):
            raise wrong_reply(method, reply)
        data: bytes = reply.SerializeToString()
        return data

    given = Handler(run, bytes, convert)
    return lambda raw, call: serve(call, given, raw)


def wrong_reply(method: Method[Any, Any], reply: object) -> TypeError:
    """The error for a servicer that returned the wrong message, for the log."""
    wanted = method.response.DESCRIPTOR.full_name
    return TypeError(f"{method.path} must give {wanted}, got {type(reply).__qualname__}")


def _callable(servicer: object, method: Method[Any, Any]) -> Callable[[Any, Call], Any]:
    """The servicer's coroutine function. It returns a message, or its bytes where these are faster to make."""
    name = f"{type(servicer).__qualname__}.{method.name}"
    found = getattr(servicer, method.name, None)
    if found is None:
        raise TypeError(f"{name} is missing; {method.service} declares it")
    if method.client_streaming or method.server_streaming:
        raise TypeError(f"{method.path} streams; hop serves unary methods only")
    if not inspect.iscoroutinefunction(found):
        raise TypeError(f"{name} must be async def and return its reply")
    serve: Callable[[Any, Call], Any] = found
    return serve


def _reader(method: Method[Any, Any]) -> Callable[[bytes], Message]:
    parse = method.request.FromString

    def one(raw: bytes) -> Message:
        try:
            message: Message = parse(raw)
            return message
        except DecodeError as error:
            raise Fault(
                Code.INVALID_ARGUMENT,
                Reason.REASON_MALFORMED_REQUEST,
                f"The request is no {method.request.DESCRIPTOR.full_name}; do both sides use one contract?",
                metadata={"message": method.request.DESCRIPTOR.full_name},
            ) from error

    return one


def _call(path: str, context: Any, peer_of: PeerOf) -> Call:
    remaining = context.time_remaining()
    now = time.monotonic()
    metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    call = Call(path, peer_of(context), math.inf if remaining is None else now + remaining, metadata)
    sent = clocks.read(metadata.get(clocks.CLOCK_KEY), metadata.get(clocks.SENT_KEY), now)
    if sent is not None:
        call.sent, deadline = sent
        call.deadline = min(call.deadline, deadline)
    return call


async def _abort(context: Any, call: Call, fault: Fault) -> None:
    await context.abort(
        wire_errors.status_code(fault.code),
        wire_errors.cut(fault.message),
        (*wire_errors.trailers(fault), *call.trailing),
    )


class Routes(grpc.GenericRpcHandler):
    """Finds the handler of a path. Until the service is built, every call gets an error that says to retry.

    Generated code registers health, reflection and channelz here instead of with the server: there, each of their
    methods would be one more future that grpc.aio awaits at every call.
    """

    def __init__(self, name: str) -> None:
        self._handlers: dict[str, RpcHandler] | None = None
        self._others: list[grpc.GenericRpcHandler] = []
        self._starting = _refusal(_starting(name))

    def open(self, handlers: dict[str, RpcHandler]) -> None:
        """Serves the methods in `handlers` (by path) from now on."""
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> RpcHandler | None:
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


def _refusal(fault: Fault) -> RpcHandler:
    """Fails a call of any arity, without reading its messages."""

    async def refuse(_requests: object, context: Any) -> AsyncIterator[bytes]:
        await context.abort(
            wire_errors.status_code(fault.code), wire_errors.cut(fault.message), wire_errors.trailers(fault)
        )
        yield b""  # not reached: makes this an async generator, as every streaming handler here

    return grpc.stream_stream_rpc_method_handler(refuse)
