"""The Open Inference Protocol's REST form, for curl, tritonclient.http and KServe's clients."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from google.protobuf.message import Message

from headrace.hop.errors import Code, Fault, Reason, reason_name
from headrace.oip import open_inference_pb2 as pb
from services.ingress.door import Operation
from services.ingress.faults import http_status, malformed
from services.ingress.protocols.asgi import Disconnected, Headers, Receive, Scope, Send, respond
from services.ingress.protocols.body.codecs import THREAD_BYTES, in_thread
from services.ingress.protocols.body.inflate import GZIP_OR_ZLIB, inflate
from services.ingress.protocols.rest import repository as rest_repository
from services.ingress.protocols.rest.json_form import to_json
from services.ingress.protocols.rest.tensors import read_request, write_response
from services.ingress.protocols.unary import Intake
from services.ingress.request_context import RequestContext

_SERVICE = "/inference.GRPCInferenceService/"
_MODEL = re.compile(
    r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<action>infer|ready|config|stats))?\Z"
)
_FIXED: Mapping[str, tuple[str, type[Message]]] = {
    "/v2": ("ServerMetadata", pb.ServerMetadataRequest),
    "/v2/health/live": ("ServerLive", pb.ServerLiveRequest),
    "/v2/health/ready": ("ServerReady", pb.ServerReadyRequest),
    # Not the model of this name: its own are below /v2/models/stats/versions.
    "/v2/models/stats": ("ModelStatistics", pb.ModelStatisticsRequest),
}
_LENGTH_HEADER = b"inference-header-content-length"
_READS: Mapping[str, tuple[str, type[Message]]] = {
    "": ("ModelMetadata", pb.ModelMetadataRequest),
    "ready": ("ModelReady", pb.ModelReadyRequest),
    "config": ("ModelConfig", pb.ModelConfigRequest),
    "stats": ("ModelStatistics", pb.ModelStatisticsRequest),
}
# The key of a fault's metadata that says which methods a path has.
_ALLOW = "allow"
_IS_JSON = (b"content-type", b"application/json")


class Rest:
    """Serves /v2… with the operations of the door."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._door = intake.door
        self._max_values = intake.limits.max_values
        self._infer = self._operation("ModelInfer")

    def _operation(self, name: str) -> Operation:
        return self._door.operations[_SERVICE + name]

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Answers are JSON; errors are {"error": text, "code": …, "reason": …}. HEAD is GET without the body."""
        if scope["method"] == "HEAD":
            scope, send = {**scope, "method": "GET"}, _headers_only(send)
        context = self._door.begin("rest", dict(scope["headers"]), scope.get("received"), scope["path"])
        try:
            self._intake.check_headers(scope)
            context.deadline = context.received + _timeout(context.headers)
            operation, handle = self._route(scope["method"], scope["path"].rstrip("/"), context)
            context.method = operation.method.name
            self._door.admit(operation, context)
            body = await self._body(operation, scope, receive, context)
        except Fault as fault:
            self._door.refuse(context, fault)
            await _fail(send, fault, context)
            return
        except (Disconnected, asyncio.CancelledError) as gone:
            self._intake.gone(context, gone)
            return
        except Exception as error:  # noqa: BLE001 - the caller always gets an answer, and its slots are released
            await _fail(send, self._door.broken(context, error), context)
            return
        try:
            with self._intake.departures.watch(receive):
                status, extra, content = await handle(body)
                extra += [(b"x-request-id", context.header_id.encode()), *context.replay_headers()]
                await respond(send, status, extra, content)
        except Fault as fault:
            if context.fault is None:  # unreadable: it did not become a call
                self._door.refuse(context, fault)
            await _fail(send, fault, context)
        except Exception as error:
            if context.fault is not None or context.result is not None:
                raise  # the answer could not be sent
            await _fail(send, self._door.broken(context, error), context)
        finally:
            if context.entered:  # the caller disconnected while the body was parsed
                self._intake.gone(context)

    async def _body(
        self, operation: Operation, scope: Scope, receive: Receive, context: RequestContext
    ) -> bytes:
        if scope["method"] != "POST":
            return b""
        limit = self._intake.limit(operation)
        body = await self._intake.bodies.read(receive, context, limit)
        encoding = context.headers.get(b"content-encoding", b"identity")
        if encoding == b"identity":
            return body
        if encoding not in (b"gzip", b"deflate"):
            raise malformed(
                f"content-encoding {encoding[:20].decode('latin-1')!r} is not understood; send gzip or deflate"
            )
        return await inflate(body, GZIP_OR_ZLIB, limit)

    def _route(
        self, method: str, path: str, context: RequestContext
    ) -> tuple[Operation, Callable[[bytes], Awaitable[tuple[int, Headers, bytes]]]]:
        request: Message
        if (fixed := _FIXED.get(path)) is not None:
            name, kind = fixed
            request = kind()
        elif (found := _MODEL.match(path)) is not None:
            model, version, action = found["model"], found["version"] or "", found["action"] or ""
            if action == "infer":
                _expect(method, "POST")
                return self._infer, lambda body: self._inference(body, model, version, context)
            name, kind = _READS[action]
            request = kind(name=model, version=version)
        elif (repository := rest_repository.find(path)) is not None:
            _expect(method, "POST")
            rpc, make = repository
            change = self._operation(rpc)
            return change, lambda body: self._read(change, make(body), context)
        else:
            raise Fault(Code.NOT_FOUND, Reason.REASON_METHOD_UNKNOWN, f"nothing is served at {path[:120]}")
        _expect(method, "GET", "GET, HEAD")
        read = self._operation(name)
        return read, lambda _: self._read(read, request, context)

    async def _read(
        self, operation: Operation, request: Message, context: RequestContext
    ) -> tuple[int, Headers, bytes]:
        reply = await self._door.call(operation, request, context)
        if isinstance(reply, pb.ServerLiveResponse | pb.ServerReadyResponse | pb.ModelReadyResponse):
            return _health(reply, getattr(request, "name", ""))
        if isinstance(reply, pb.RepositoryModelLoadResponse | pb.RepositoryModelUnloadResponse):
            return 200, [], b""
        return _json(_shown(reply))

    async def _inference(
        self, body: bytes, model: str, version: str, context: RequestContext
    ) -> tuple[int, Headers, bytes]:
        context.size_bytes = len(body)
        request, all_binary = await self._request(body, _header_length(context.headers), model, version)
        reply = await self._door.call(self._infer, request, context)
        assert isinstance(reply, pb.ModelInferResponse)
        asked = {
            o.name: o.parameters["binary_data"].bool_param
            for o in request.outputs
            if "binary_data" in o.parameters
        }
        content, length = write_response(reply, lambda name: asked.get(name, all_binary))
        if length is None:
            return 200, [_IS_JSON], content
        extra = [(b"content-type", b"application/octet-stream"), (_LENGTH_HEADER, b"%d" % length)]
        return 200, extra, content

    async def _request(
        self, body: bytes, header_length: int | None, model: str, version: str
    ) -> tuple[pb.ModelInferRequest, bool]:
        arguments = body, header_length, model, version, self._max_values
        if (len(body) if header_length is None else header_length) <= THREAD_BYTES:
            return read_request(*arguments)
        return await in_thread(read_request, *arguments)


def _shown(reply: Message) -> Any:
    if isinstance(reply, pb.RepositoryIndexResponse):
        return [to_json(model) for model in reply.models]
    return to_json(reply.config if isinstance(reply, pb.ModelConfigResponse) else reply)


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    text = headers.get(_LENGTH_HEADER)
    if text is None:
        return None
    if not text.isdigit() or len(text) > 12:
        raise malformed("Inference-Header-Content-Length is not a number")
    return int(text)


def _timeout(headers: Mapping[bytes, bytes]) -> float:
    """Seconds in Connect's own header, which REST callers may also use; inf if it is absent."""
    text = headers.get(b"connect-timeout-ms", b"")
    return int(text) / 1000 if text.isdigit() and len(text) <= 10 else math.inf


def _expect(method: str, wanted: str, allow: str = "POST") -> None:
    if method != wanted:
        text = f"{method[:20]} is not served here; use {wanted}"
        raise Fault(Code.UNIMPLEMENTED, Reason.REASON_METHOD_UNKNOWN, text, metadata={_ALLOW: allow})


def _headers_only(send: Send) -> Send:
    async def sent(event: MutableMapping[str, Any]) -> None:
        await send({**event, "body": b""} if "body" in event else event)

    return sent


def _json(value: Any) -> tuple[int, Headers, bytes]:
    return 200, [_IS_JSON], json.dumps(value).encode()


def _health(
    reply: pb.ServerLiveResponse | pb.ServerReadyResponse | pb.ModelReadyResponse, model: str
) -> tuple[int, Headers, bytes]:
    """The state in both status and body, as the protocol requires: Triton's clients read one of them, KServe's the other."""
    live = isinstance(reply, pb.ServerLiveResponse)
    good = reply.live if isinstance(reply, pb.ServerLiveResponse) else reply.ready
    said = {"name": model} if model else {}
    content = json.dumps({**said, "live" if live else "ready": good}).encode()
    return (200 if good else 503), [_IS_JSON], content


async def _fail(send: Send, fault: Fault, context: RequestContext) -> None:
    status = http_status(fault)
    if fault.reason == Reason.REASON_TOO_LARGE and status != 431:
        status = 413
    elif _ALLOW in fault.metadata:
        status = 405
    shown = {
        "error": fault.message,
        "code": fault.code.name,
        "reason": reason_name(fault.reason),
        "metadata": dict(fault.metadata),
    }
    headers = [_IS_JSON, (b"x-request-id", context.header_id.encode()), *context.replay_headers()]
    if fault.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(fault.retry_after_s)))
    if _ALLOW in fault.metadata:
        headers.append((b"allow", fault.metadata[_ALLOW].encode()))
    if fault.code is Code.UNAUTHENTICATED:
        headers.append((b"www-authenticate", b"Bearer"))
    await respond(send, status, headers, json.dumps(shown).encode())
