"""A real door with a store of releases, for operators: one release of `double`, an audit, a webhook."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.api.router.v1 import router_pb2
from headrace.hop import testing
from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import parse
from headrace.releases import FileReleases
from headrace.releases.first import first_release
from tests.libs.releases.webhook_receiver import Receiver
from tests.services.ingress.ingress_door import (
    PIPELINE,
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    prepare,
)


@dataclass
class Router(FakeRouter):
    """While it is `alone` there is no executor that it could ask."""

    alone: bool = False

    async def IndexModels(
        self, request: router_pb2.IndexModelsRequest, call: Call
    ) -> router_pb2.IndexModelsResponse:
        if self.alone:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "no executor")
        return await super().IndexModels(request, call)


@dataclass
class ReleasedDoor:
    """The door's folder, the router behind it, and who is told of changes."""

    folder: Folder
    router: Router
    receiver: Receiver


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[ReleasedDoor]:
    """The door, in the folder `path`."""
    router, receiver = Router(), Receiver()
    async with testing.served(definition(router)) as harness:
        path.chmod(0o700)
        records = {"audit": str(path / "audit" / "releases.jsonl"), "webhook": {"url": receiver.url}}
        options = {"releases": str(path / "releases"), "release_records": records}
        begin_anew(path)
        folder = prepare(path, harness.target, server={"listen": f"unix:{path / 'ingress.sock'}"}, **options)
        process = DoorProcess(folder)
        try:
            await process.ready(folder.grpc)
            yield ReleasedDoor(folder, router, receiver)
        finally:
            process.kill()
            receiver.close()


def begin_anew(path: Path) -> None:
    """Release 1, with version 1 of the model, and no other; no freeze."""
    # Not `remove`, after which the numbers go on.
    shutil.rmtree(path / "releases", ignore_errors=True)
    at = store(path)
    pipeline = parse(PIPELINE, "double")
    at.keep_document("double", pipeline.revision, PIPELINE)
    at.commit(first_release(pipeline, {"doubler": "1"}, "test", ""))


def store(path: Path) -> FileReleases:
    return FileReleases(path / "releases")
