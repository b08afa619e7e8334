"""The door's ASGI application in this process, without Envoy, in front of a made-up router."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from headrace.hop import testing
from headrace.hop.definition import Definition, Runtime, Service
from services.ingress import wiring
from services.ingress.config import IngressSettings
from services.ingress.protocols.asgi import Application
from services.ingress.protocols.registry import UNARY, routes
from services.ingress.protocols.unary import UnaryProtocol
from tests.services.ingress.ingress_door import FakeRouter, definition, prepare
from tests.services.ingress.ingress_keys import Keys


class Opened(NamedTuple):
    """The application, keys of its tenants, and what it runs with."""

    application: Application
    keys: Keys
    runtime: Runtime


@asynccontextmanager
async def opened(
    path: Path,
    router: FakeRouter,
    protocols: Sequence[type[UnaryProtocol]] = UNARY,
    log: Any = None,
    **options: Any,
) -> AsyncIterator[Opened]:
    """`log`: in place of its own; `options`: as of `prepare`."""
    made: list[tuple[Application, Runtime]] = []

    @asynccontextmanager
    async def build(settings: IngressSettings, runtime: Runtime) -> AsyncIterator[Sequence[Service]]:
        runtime.telemetry.log = log or runtime.telemetry.log
        async with wiring.assembled(settings, runtime) as ingress:
            made.append((routes(ingress, settings.limits, protocols), runtime))
            yield []

    async with testing.served(definition(router)) as harness:
        folder = prepare(path, harness.target, http={"plaintext": "127.0.0.1:0"}, **options)
        settings = yaml.safe_load((path / "ingress.yaml").read_text())
        async with testing.served(Definition("ingress", IngressSettings, build), settings, "local"):
            [(application, runtime)] = made
            yield Opened(application, folder.keys, runtime)


async def ask(
    application: Application, path: str, body: bytes, headers: Mapping[str, str]
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers with trailers, and body of a POST."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    fields = [(k.encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "query_string": b""}
    await application({**scope, "headers": fields}, receive, send)
    found = {k: v for e in sent for k, v in e.get("headers", ())}
    return sent[0]["status"], found, b"".join(e.get("body", b"") for e in sent)
