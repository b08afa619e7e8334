"""The registry of protocols: one more is a class, and nothing else has to change."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from headrace.hop.errors import Fault, reason_name
from services.ingress.protocols.asgi import Response
from services.ingress.protocols.body.codecs import Codec
from services.ingress.protocols.registry import UNARY
from services.ingress.protocols.unary import UnaryProtocol
from services.ingress.request_context import RequestContext
from tests.services.ingress.ingress_asgi import ask, opened
from tests.services.ingress.ingress_calls import OIP, rest_body
from tests.services.ingress.ingress_door import FakeRouter, infer_request


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


@pytest.mark.asyncio
async def test_a_new_protocol_needs_nothing_but_its_class(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeRouter(), (*UNARY, Shouted)) as (app, keys, _):
        credential = {"authorization": f"Bearer {keys.demo}"}
        request = infer_request([[1, 2]], [3], id="r-1")
        shouted = {"content-type": "application/shouted"}
        body = request.SerializeToString() + b"!"
        status, _, reply = await ask(app, OIP + "ModelInfer", body, {**shouted, **credential})
        assert (status, reply[-1:]) == (200, b"!")
        assert b"double" in reply
        assert (await ask(app, OIP + "ModelInfer", body, shouted))[::2] == (418, b"CREDENTIAL_INVALID!")
        # The others serve as before: paths, another content type, and what is left over.
        json_type = {"content-type": "application/json", **credential}
        status, _, reply = await ask(app, "/v2/models/double/infer", rest_body(), json_type)
        assert (status, json.loads(reply)["id"]) == (200, "r-1")
        assert (await ask(app, OIP + "ServerLive", b"{}", json_type))[0] == 200
        assert (await ask(app, "/nowhere", b"", {}))[0] == 404
        assert (await ask(app, OIP + "ServerLive", b"", {"content-type": "text/plain"}))[0] == 415
