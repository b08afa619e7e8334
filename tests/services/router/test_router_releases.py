"""The router serves what releases name, and a release only when the executor has its models."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from headrace.api.executor.v1 import executor_pb2
from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import Batch, Column, Rows, encode
from headrace.hop.testing import Harness, served
from headrace.pipeline import parse
from headrace.releases import Arm, FileReleases, Release
from headrace.releases.first import first_release
from services.router.wiring import SERVICE
from tests.services.router.router_leaves import INFER, LIST, Executor, _definition
from tests.services.waiting import until

ACTIVE, LOADING = executor_pb2.MODEL_STATE_ACTIVE, executor_pb2.MODEL_STATE_LOADING
DOCUMENT = """
pipeline: p
version: 1
deadline_ms: 1000
inputs: {x: float32}
stages:
  - {model: s, name: m, inputs: {numbers: x}, outputs: {total: {column: y, type: float32}}}
outputs: [y]
"""


class Asked(Executor):
    """Notes which version each call asked for."""

    versions: list[str]

    async def Execute(
        self, request: executor_pb2.ExecuteRequest, call: object
    ) -> executor_pb2.ExecuteResponse:
        self.versions = [*getattr(self, "versions", []), request.version]
        return await super().Execute(request, call)  # type: ignore[arg-type]  # the call is not used


def arm(text: str, version: str) -> Arm:
    pipeline = parse(text, "p")
    return Arm(version=pipeline.version, revision=pipeline.revision, models={"m": version})


def deploy(store: FileReleases, version: str, text: str = DOCUMENT) -> Release:
    pipeline = parse(text, "p")
    store.keep_document("p", pipeline.revision, text)
    before, _ = store.current("p")
    release = (
        before.next("me", "", arms={"live": arm(text, version)})
        if before
        else first_release(pipeline, {"m": version}, "me", "")
    )
    store.commit(release)
    return release


@asynccontextmanager
async def routing(store: FileReleases) -> AsyncIterator[tuple[Harness, Asked]]:
    executor = Asked()
    leaf = _definition("executor", executor_pb2.DESCRIPTOR, "ExecutorService", executor)
    async with served(leaf) as harness:
        settings = {"releases": str(store.folder), "executor": {"target": harness.target}}
        async with served(SERVICE, settings) as router:
            yield router, executor


async def ask(router: Harness, version: int = 0) -> int:
    """The version of the pipeline that answered."""
    rows = Rows.one_request(1, "r", "t", time.monotonic() + 60)
    batch = encode(Batch.of(rows, [Column.of("x", np.array([1.0], np.float32))]))
    reply = await router.client().unary(INFER)(
        pb.InferRequest(pipeline="p", version=version, batch=batch), deadline=time.monotonic() + 60
    )
    return int(reply.decisions[0].version)


async def release_of(router: Harness) -> int:
    reply = await router.client().unary(LIST)(pb.ListPipelinesRequest(), deadline=time.monotonic() + 60)
    return int(reply.pipelines[0].release)


async def until_served(router: Harness, number: int) -> None:
    async with asyncio.timeout(20):
        while await release_of(router) != number:
            await asyncio.sleep(0.01)


def waiting(router: Harness) -> float | None:
    read = router.runtime.telemetry.registry.get_sample_value
    return read("headrace_router_waiting_releases", {"pipeline": "p"})


async def test_the_models_are_the_ones_that_the_release_names(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store, "7")
    async with routing(store) as (router, executor):
        assert await ask(router) == 1
        assert executor.versions == ["7"]


async def test_a_release_waits_until_the_executor_has_its_model(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store, "1")
    async with routing(store) as (router, executor):
        executor.loaded["2"] = LOADING
        deploy(store, "2")
        await until(lambda: waiting(router))
        await ask(router)
        assert executor.versions[-1] == "1"
        executor.loaded["2"] = ACTIVE
        await until_served(router, 2)
        await ask(router)
        assert (executor.versions[-1], waiting(router)) == ("2", None)


async def test_a_rollback_needs_no_answer_of_the_executor(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    first = deploy(store, "1")
    async with routing(store) as (router, executor):
        executor.loaded["2"] = ACTIVE
        both = {"live": arm(DOCUMENT, "2"), "previous": first.live}
        store.commit(first.next("me", "", arms=both))
        await until_served(router, 2)
        executor.loaded.clear()
        store.commit(first.next("me", "rollback", after=2))
        await until_served(router, 3)
        await ask(router)
        assert executor.versions[-1] == "1"


async def test_a_caller_that_saw_the_new_document_elsewhere_gets_it_at_once(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store, "1")
    async with routing(store) as (router, _):
        deploy(store, "2", DOCUMENT.replace("version: 1", "version: 2"))
        assert await ask(router, version=2) == 2
        # And one that has not seen it goes on with the document that it knows.
        assert await ask(router, version=1) == 1


async def test_a_broken_release_leaves_the_one_before_serving_and_is_said(tmp_path: Path) -> None:
    store = FileReleases(tmp_path)
    deploy(store, "1")
    async with routing(store) as (router, _):
        (store.folder / "p" / "2.json").write_text("{}")
        read = router.runtime.telemetry.registry.get_sample_value
        gauge = {"pipeline": "p", "serves": "last_good"}
        await until(lambda: read("headrace_router_quarantined_documents", gauge) == 1)
        assert await ask(router) == 1
