"""The registry of protocols: one more is a class, and nothing else has to change."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from headrace.hop import testing
from headrace.hop.definition import Definition, Runtime, Service
from headrace.hop.errors import Fault, reason_name
from services.ingress.config import IngressSettings
from services.ingress.protocols.asgi import Application, Response
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.registry import UNARY, routes
from services.ingress.protocols.unary import UnaryProtocol
from services.ingress.request_context import RequestContext
from services.ingress.wiring import assembled
from tests.services.ingress.ingress_calls import OIP, rest_body
from tests.services.ingress.ingress_door import FakeRouter, definition, infer_request, prepare


class Shouted(UnaryProtocol):
    """A made-up protocol: protobuf with a `!` behind it."""

    content_types: ClassVar = {b"application/shouted": "proto"}
    framing_bytes = 1

    def timeout(self, headers: Mapping[bytes, bytes]) -> float | None:
        return None

    async def unpack(self, body: bytes, limit: int, headers: Mapping[bytes, bytes]) -> bytes:
        return body.removesuffix(b"!")

    def reply(self, data: bytes, codec: Codec, context: RequestContext) -> Response:
        return 200, [(b"content-type", b"application/shouted")], data + b"!", []

    def fail(self, fault: Fault, context: RequestContext) -> Response:
        return 418, [], reason_name(fault.reason).encode() + b"!", []


@asynccontextmanager
async def application(path: Path) -> AsyncIterator[tuple[Application, dict[str, str]]]:
    """The ASGI application in this process, in front of the made-up router; and headers with a credential."""
    made: list[Application] = []

    @asynccontextmanager
    async def build(settings: IngressSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
        async with assembled(settings, runtime) as ingress:
            made.append(routes(ingress, settings.limits, (*UNARY, Shouted)))
            yield []

    async with testing.served(definition(FakeRouter())) as router:
        folder = prepare(path, router.target, http={"plaintext": "127.0.0.1:0"})
        settings = yaml.safe_load((path / "ingress.yaml").read_text())
        async with testing.served(Definition("ingress", IngressSettings, build), settings, "local"):
            yield made[0], {"authorization": f"Bearer {folder.keys.demo}"}


async def ask(
    application: Application, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    """Status and body of one HTTP request by ASGI."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    fields = [(k.encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b""}
    await application({**scope, "headers": fields}, receive, send)
    return sent[0]["status"], b"".join(e.get("body", b"") for e in sent)


@pytest.mark.asyncio
async def test_a_new_protocol_needs_nothing_but_its_class(tmp_path: Path) -> None:
    async with application(tmp_path) as (app, credential):
        request = infer_request([[1, 2]], [3], id="r-1")
        shouted = {"content-type": "application/shouted"}
        body = request.SerializeToString() + b"!"
        status, reply = await ask(app, OIP + "ModelInfer", body, {**shouted, **credential})
        assert (status, reply[-1:]) == (200, b"!")
        assert b"double" in reply
        assert await ask(app, OIP + "ModelInfer", body, shouted) == (418, b"CREDENTIAL_INVALID!")
        # The others serve as before: a path below another, another content type, and what is left over.
        json_type = {"content-type": "application/json", **credential}
        status, reply = await ask(app, "/v2/models/double/infer", rest_body(), json_type)
        assert (status, json.loads(reply)["id"]) == (200, "r-1")
        assert (await ask(app, OIP + "ServerLive", b"{}", json_type))[0] == 200
        assert (await ask(app, "/nowhere", b"", {}))[0] == 404
        assert (await ask(app, OIP + "ServerLive", b"", {"content-type": "text/plain"}))[0] == 415
