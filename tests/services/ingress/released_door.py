"""A real door with a store of releases, for operators: one release of `double`, an audit, a webhook."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.api.router.v1 import router_pb2
from headrace.hop.call import Call
from headrace.hop.errors import Code, Fault, Reason
from headrace.pipeline import parse
from headrace.releases import FileReleases
from headrace.releases.first import first_release
from tests.libs.releases.webhook_receiver import Receiver
from tests.services.ingress import ingress_door
from tests.services.ingress.ingress_door import PIPELINE, FakeRouter, Folder


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
    begin_anew(path)
    records = {"webhook": {"url": receiver.url}}
    options: dict[str, Any] = {"releases": str(path / "releases"), "release_records": records}
    try:
        async with ingress_door.running(path, router, **options) as process:
            yield ReleasedDoor(process.folder, router, receiver)
    finally:
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
