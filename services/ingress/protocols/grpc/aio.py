"""The door's RPCs as servicers of hop's grpc.aio server: the same handlers over a different transport."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from headrace.hop.call import Call
from headrace.hop.definition import Service
from headrace.hop.errors import Fault
from services.ingress.door import Door, Operation
from services.ingress.protocols.refusals import too_large
from services.ingress.request_context import RequestContext
from services.ingress.wiring import (
    INFERENCE_SERVICE,
    OIP_SERVICE,
    OPERATIONS_SERVICE,
    RELEASE_SERVICE,
    Ingress,
)

_INFER = f"/{OIP_SERVICE.full_name}/ModelInfer"
_STREAM = f"/{OIP_SERVICE.full_name}/ModelStreamInfer"


def servicers(ingress: Ingress, max_request_bytes: int) -> list[Service]:
    """The services of the door. A message over our limit, but within the server's own limit, gets our own answer."""
    door = ingress.door
    found = []
    for descriptor in (OIP_SERVICE, INFERENCE_SERVICE, OPERATIONS_SERVICE, RELEASE_SERVICE):
        prefix = f"/{descriptor.full_name}/"
        methods: dict[str, Any] = {
            path.removeprefix(prefix): staticmethod(_unary(door, operation, max_request_bytes))
            for path, operation in door.operations.items()
            if path.startswith(prefix)
        }
        if descriptor is OIP_SERVICE:
            methods["ModelStreamInfer"] = staticmethod(_stream(ingress))
        found.append(Service(descriptor, type(descriptor.name, (), methods)(), precheck=_prover(door)))
    return found


def _prover(door: Door) -> Callable[[str, Mapping[str, str]], None]:
    """Checks credential and scope before grpc.aio reads a message. The other checks of `Door.admit` are made after it is read."""

    def prove(path: str, metadata: Mapping[str, str]) -> None:
        operation = door.operations.get(_INFER if path == _STREAM else path)
        if operation is None or operation.open:
            return
        context = door.begin(operation.method.name, _headers(metadata))
        try:
            door.prove(operation, context)
        except Fault as fault:
            raise door.refuse(context, fault) from None

    return prove


def _headers(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    return {k.encode(): v.encode("latin-1", "replace") for k, v in metadata.items()}


def _begin(door: Door, name: str, call: Call) -> RequestContext:
    context = door.begin(name, _headers(call.metadata))
    context.path, context.deadline = call.method, call.deadline
    return context


def _unary(door: Door, operation: Operation, limit: int) -> Callable[[Any, Call], Any]:
    async def serve(request: Any, call: Call) -> Message:
        context = _begin(door, operation.method.name, call)
        try:
            if request.ByteSize() > limit:
                raise door.refuse(context, too_large(request.ByteSize(), limit))
            return await door.call(operation, request, context)
        finally:
            call.trailing.append(("x-request-id", context.header_id))
            call.trailing.extend((n.decode(), v.decode()) for n, v in context.replay_headers())

    return serve


def _stream(ingress: Ingress) -> Callable[[Any, Call], Any]:
    operation = ingress.door.operations[_INFER]

    async def serve(requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Message]:
        context = _begin(ingress.door, "ModelStreamInfer", call)
        call.trailing.append(("x-request-id", context.header_id))
        handler = ingress.open_inference.ModelStreamInfer
        async for reply in ingress.door.stream(operation, handler, requests, context):
            yield reply

    return serve
