"""The protocols of the ingress, and which of them a request uses.

A new protocol is a module with an `ENTRY`, a line in PROTOCOLS, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from headrace.hop.errors import Code, Fault, Reason
from services.ingress.config import Limits
from services.ingress.protocols.asgi import Application, Receive, Scope, Send, respond
from services.ingress.protocols.body.codecs import Codec, Json, Proto
from services.ingress.protocols.connect import streams as connect_streams
from services.ingress.protocols.connect import unary as connect_unary
from services.ingress.protocols.departures import Departures
from services.ingress.protocols.entry import Entry, Parts, PathEntry, UnaryEntry
from services.ingress.protocols.grpc import unary as grpc_unary
from services.ingress.protocols.grpc import web as grpc_web
from services.ingress.protocols.rest import protocol as rest
from services.ingress.protocols.unary import Intake, UnaryProtocol
from services.ingress.wiring import Ingress

Unary: TypeAlias = "dict[bytes, tuple[UnaryProtocol, Codec]]"
PROTOCOLS: tuple[Entry, ...] = (
    grpc_unary.ENTRY,
    grpc_web.ENTRY,
    connect_unary.ENTRY,
    rest.ENTRY,
    connect_streams.ENTRY,
)


def routes(ingress: Ingress, limits: Limits, protocols: Sequence[Entry] = PROTOCOLS) -> Application:
    """The application of all protocols. Raises ValueError if two of them take the same requests."""
    codecs: dict[str, Codec] = {c.name: c for c in (Proto(limits.max_values), Json(limits.max_values))}
    intake = Intake(ingress.door, Departures(ingress.door.clock), limits)
    unary = _unary(protocols, intake, codecs)
    paths = _paths(protocols, Parts(ingress, intake, codecs, _unknown(intake, unary)))
    operations = ingress.door.operations

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        operation = operations.get(path)
        if operation is None:
            for prefix, application in paths:
                if not prefix or (path.startswith(prefix) and path[len(prefix) :][:1] in ("", "/")):
                    await application(scope, receive, send)
                    return
            return
        headers = dict(scope["headers"])
        found = unary.get(_content_type(headers))
        if found is None or scope["method"] != "POST":
            await _refuse(scope, send)
            return
        protocol, codec = found
        await protocol.serve(operation, codec, headers, scope, receive, send)

    return serve


def _unary(protocols: Sequence[Entry], intake: Intake, codecs: Mapping[str, Codec]) -> Unary:
    found: Unary = {}
    for entry in protocols:
        if isinstance(entry, UnaryEntry):
            protocol = entry.make(intake)
            for content_type, codec in entry.codecs.items():
                if content_type in found:
                    raise ValueError(f"{content_type.decode()} is a content type of two protocols")
                found[content_type] = protocol, codecs[codec]
    return found


def _paths(protocols: Sequence[Entry], parts: Parts) -> list[tuple[str, Application]]:
    """Longest prefix first."""
    found = {entry.prefix: entry.make(parts) for entry in protocols if isinstance(entry, PathEntry)}
    if len(found) < sum(isinstance(entry, PathEntry) for entry in protocols):
        raise ValueError("two protocols have the same prefix of paths")
    return sorted(found.items(), key=lambda one: -len(one[0]))


def _unknown(intake: Intake, unary: Unary) -> Application:
    """Says in the protocol of a call that there is no such service or method; 404 to what is no call."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as ASGI has it
        path, headers = scope["path"], dict(scope["headers"])
        protocol, _ = unary.get(_content_type(headers), (None, None))
        # JSON that is sent to any other path may be no call.
        if (
            protocol is None
            or scope["method"] != "POST"
            or not (protocol.framing_bytes or path.count("/") == 2)
        ):
            await respond(send, 404, [], b"")
            return
        context = intake.door.begin("unknown", headers, scope.get("received"), path)
        text = f"nothing is served at {path[:120]}"
        fault = intake.door.refuse(context, Fault(Code.UNIMPLEMENTED, Reason.REASON_METHOD_UNKNOWN, text))
        await respond(send, *protocol.fail(fault, context))

    return refuse


def _content_type(headers: Mapping[bytes, bytes]) -> bytes:
    found = headers.get(b"content-type", b"")
    # `application/json; charset=utf-8`: JSON has no other charset, so the parameter is ignored.
    return found if b";" not in found else found.partition(b";")[0].strip()


async def _refuse(scope: Scope, send: Send) -> None:
    """Answers a method or a content type that no protocol supports."""
    if scope["method"] != "POST":
        await respond(send, 405, [(b"allow", b"POST")], b"")
        return
    await respond(
        send, 415, [(b"accept-post", b"application/json, application/proto, application/grpc")], b""
    )
