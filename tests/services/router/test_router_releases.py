"""The router serves what releases name, and a release only when the executor has its models. Operators' calls reach every
replica of the executor; what one replica refuses is the answer."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.api.executor.v1 import executor_pb2
from headrace.api.router.v1 import router_pb2 as pb
from headrace.columns import Batch, Column, Rows, encode
from headrace.hop import config
from headrace.hop.call import Call, Method
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.server.serve import serving
from headrace.hop.testing import Harness, served
from headrace.pipeline import parse
from headrace.releases import Arm, Release, ReleaseStore
from headrace.resources import follower
from headrace.resources.offline import OfflineResources
from services.ingress.clients import INDEX, INFER, LIST, LOAD, UNLOAD
from services.router.config import RouterConfig
from services.router.wiring import SERVICE
from tests.first_release import first_release, live, resources_of
from tests.released import Released, released
from tests.services.router.router_leaves import Executor, replicas, targets
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
UNTRUSTED = Fault(
    Code.FAILED_PRECONDITION, Reason.REASON_MODEL_UNTRUSTED, "it is not signed", metadata={"model": "m"}
)


class Asked(Executor):
    """Notes which version each call asked for."""

    versions: list[str]

    async def Execute(self, request: Any, call: Call) -> Any:
        self.versions = [*getattr(self, "versions", []), request.version]
        return await super().Execute(request, call)


def arm(text: str, version: str) -> Arm:
    pipeline = parse(text, "p")
    return Arm(version=pipeline.version, revision=pipeline.revision, models={"m": version})


def deploy(store: ReleaseStore, version: str, text: str = DOCUMENT) -> Release:
    pipeline = parse(text, "p")
    before, _ = store.current("p")
    release = (
        before.next("me", "", arms={"live": arm(text, version)})
        if before
        else first_release(pipeline, {"m": version}, "me", "")
    )
    store.commit(release, {pipeline.revision: text})
    return release


@pytest.fixture
def releases(tmp_path: Path) -> Iterator[Released]:
    with released(tmp_path) as found:
        yield found


@asynccontextmanager
async def routing(releases: Released, **resources: Any) -> AsyncIterator[tuple[Harness, Asked]]:
    """`resources`: further settings of what it follows."""
    executor = Asked()
    follows = {**releases.settings, "resources": {**releases.settings["resources"], **resources}}
    async with (
        replicas(executor) as harnesses,
        served(SERVICE, {**follows, "executor": targets(harnesses)}) as router,
    ):
        await until(lambda: router.running and router.running.health.serving)
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


def metric(router: Harness, name: str, **labels: str) -> float | None:
    return router.runtime.telemetry.registry.get_sample_value(f"headrace_router_{name}", labels)


def waiting(router: Harness) -> float | None:
    return metric(router, "waiting_releases", pipeline="p")


async def test_a_release_waits_until_the_executor_has_its_model(releases: Released) -> None:
    store = releases.store
    deploy(store, "1")
    async with routing(releases) as (router, executor):
        executor.loaded["2"] = LOADING
        deploy(store, "2")
        await until(lambda: waiting(router))
        await ask(router)
        assert executor.versions[-1] == "1"
        executor.loaded["2"] = ACTIVE
        await until_served(router, 2)
        await ask(router)
        assert (executor.versions[-1], waiting(router)) == ("2", None)


async def test_a_rollback_needs_no_answer_of_the_executor(releases: Released) -> None:
    store = releases.store
    first = deploy(store, "1")
    async with routing(releases) as (router, executor):
        executor.loaded["2"] = ACTIVE
        both = {"live": arm(DOCUMENT, "2"), "previous": first.live}
        store.commit(first.next("me", "", arms=both))
        await until_served(router, 2)
        executor.loaded.clear()
        store.commit(first.next("me", "rollback", after=2))
        await until_served(router, 3)
        await ask(router)
        assert executor.versions[-1] == "1"


async def test_a_caller_that_saw_the_new_document_elsewhere_gets_it_at_once(releases: Released) -> None:
    store = releases.store
    deploy(store, "1")
    async with routing(releases) as (router, _):
        deploy(store, "2", DOCUMENT.replace("version: 1", "version: 2"))
        await until(lambda: waiting(router))
        assert await ask(router, version=2) == 2
        # And one that has not seen it goes on with the document that it knows.
        assert await ask(router, version=1) == 1


# For a service that the router has no client of.
UNSERVABLE = DOCUMENT.replace("version: 1", "version: 2").replace(
    "stages:",
    """stages:
  - preprocessing: prepare
    steps: [assemble: {columns: [x], into: prepared}]
    outputs: {prepared: {type: float32, shape: [1]}}""",
)


async def test_while_the_newest_release_can_not_be_served_the_one_before_does_also_after_a_restart(
    releases: Released, tmp_path: Path
) -> None:
    store, folder = releases.store, tmp_path / "disk"
    deploy(store, "1")
    async with routing(releases, folder=folder) as (router, _):
        assert await ask(router) == 1
        deploy(store, "1", UNSERVABLE)
        await until(lambda: metric(router, "quarantined_documents", pipeline="p", serves="last_good"))
        assert await ask(router) == 1
        with pytest.raises(Fault) as unknown:
            await ask(router, version=2)
        assert unknown.value.metadata["known"] == "1"
    async with routing(releases, folder=folder) as (router, _):
        assert await ask(router) == 1
        assert metric(router, "quarantined_documents", pipeline="p", serves="last_good") == 1
        deploy(store, "1", DOCUMENT.replace("version: 1", "version: 3"))
        await until(lambda: metric(router, "release", pipeline="p") == 3)
        assert not metric(router, "quarantined_documents", pipeline="p", serves="last_good")


async def test_a_router_that_knows_nothing_is_not_ready_until_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "STORE_EVERY_S", 0.05)
    offline = OfflineResources(tmp_path)
    executor = {"target": f"unix:{tmp_path}/nobody"}
    async with served(SERVICE, {"resources": offline.settings, "executor": executor}) as router:
        assert router.running is not None
        health = router.running.health
        assert not health.serving
        offline.write(resources_of(DOCUMENT))
        await until(lambda: health.serving)
        assert await release_of(router) == 1


class Operator:
    """Asks the router."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(self, method: Method[Any, Any], **fields: str) -> Any:
        call = self._client.unary(method)
        return await call(method.request(**fields), deadline=time.monotonic() + 60)

    async def states(self) -> dict[str, int]:
        return {m.version: m.state for m in (await self.ask(INDEX)).models}


@asynccontextmanager
async def operated(folder: Path, count: int) -> AsyncIterator[tuple[Operator, list[Executor]]]:
    executors = [Executor() for _ in range(count)]
    async with replicas(*executors) as harnesses:
        settings = {"resources": live(folder), **({"executor": targets(harnesses)} if count else {})}
        async with served(SERVICE, settings) as router:
            yield Operator(router.client()), executors


async def test_each_replica_loads_and_unloads(tmp_path: Path) -> None:
    async with operated(tmp_path, 2) as (operator, executors):
        loaded = await operator.ask(LOAD, model="m", version="2", operator="ops/k")
        assert (loaded.model, loaded.version, loaded.sha256) == ("m", "2", "ab" * 32)
        assert await operator.states() == {"1": ACTIVE, "2": ACTIVE}
        gone = await operator.ask(UNLOAD, model="m", version="1", operator="ops/k")
        assert list(gone.versions) == ["1"]
        for executor in executors:
            assert executor.asked == ["load m:2 for ops/k", "unload m:1 for ops/k"]
            assert set(executor.loaded) == {"2"}


async def test_the_index_shows_the_replica_that_is_least_far(tmp_path: Path) -> None:
    async with operated(tmp_path, 2) as (operator, executors):
        executors[1].loaded = {"1": LOADING, "2": ACTIVE}
        assert await operator.states() == {"1": LOADING, "2": ACTIVE}


@pytest.mark.parametrize("call", [LOAD, UNLOAD])
async def test_a_refusal_comes_through_with_its_reason(tmp_path: Path, call: Method[Any, Any]) -> None:
    async with operated(tmp_path, 1) as (operator, [executor]):
        executor.refusal = UNTRUSTED
        with pytest.raises(Fault) as caught:
            await operator.ask(call, model="m", version="1")
        fault = caught.value
        told = fault.code, fault.reason, fault.message
        assert told == (UNTRUSTED.code, UNTRUSTED.reason, UNTRUSTED.message)
        assert fault.metadata["model"] == "m"


async def test_one_replica_that_refuses_is_told_with_how_many_did_not(tmp_path: Path) -> None:
    async with operated(tmp_path, 2) as (operator, executors):
        executors[1].refusal = UNTRUSTED
        says = "1 of 2 executors did it, another did not: it is not signed"
        with pytest.raises(Fault, match=says) as caught:
            await operator.ask(LOAD, model="m", version="2")
        assert caught.value.reason == Reason.REASON_MODEL_UNTRUSTED


async def test_to_unload_what_one_replica_lacks_is_no_error_and_what_all_lack_is(tmp_path: Path) -> None:
    async with operated(tmp_path, 2) as (operator, executors):
        del executors[0].loaded["1"]
        assert list((await operator.ask(UNLOAD, model="m", version="1")).versions) == ["1"]
        with pytest.raises(Fault) as caught:
            await operator.ask(UNLOAD, model="m", version="1")
        assert caught.value.code is Code.NOT_FOUND


async def test_a_router_without_an_executor_says_so(tmp_path: Path) -> None:
    async with operated(tmp_path, 0) as (operator, _):
        with pytest.raises(Fault, match="no executor") as caught:
            await operator.ask(LOAD, model="m")
        assert caught.value.code is Code.FAILED_PRECONDITION


async def test_only_this_installation_changes_what_is_loaded(tmp_path: Path) -> None:
    server = {"listen": "127.0.0.1:0", "allow_plaintext": True}
    settings = RouterConfig.model_validate({"server": server, "resources": live(tmp_path)})
    async with serving(SERVICE, settings) as running:
        client = running.runtime.dial("router", config.ClientSettings(target=running.address))
        try:
            for call in (INDEX, LOAD, UNLOAD):
                with pytest.raises(Fault) as caught:
                    await Operator(client).ask(call)
                assert caught.value.code is Code.PERMISSION_DENIED
                assert caught.value.reason == Reason.REASON_PEER_UNTRUSTED
        finally:
            await client.close()
