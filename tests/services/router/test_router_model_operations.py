"""Operators' calls reach every replica of the executor; what one replica refuses is the answer."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace.api.executor.v1 import executor_pb2
from headrace.hop import config
from headrace.hop.call import Method
from headrace.hop.client.dial import Client
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.server.serve import serving
from headrace.hop.testing import served
from services.router.config import RouterConfig
from services.router.wiring import SERVICE
from tests.services.router.router_leaves import Executor, _definition, router_method

ACTIVE, LOADING = executor_pb2.MODEL_STATE_ACTIVE, executor_pb2.MODEL_STATE_LOADING
UNTRUSTED = Fault(
    Code.FAILED_PRECONDITION, Reason.REASON_MODEL_UNTRUSTED, "it is not signed", metadata={"model": "m"}
)


INDEX = router_method("IndexModels", idempotent=False)
LOAD = router_method("LoadModel", idempotent=False)
UNLOAD = router_method("UnloadModel", idempotent=False)


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
async def replicas(folder: Path, count: int) -> AsyncIterator[tuple[Operator, list[Executor]]]:
    executors = [Executor() for _ in range(count)]
    if count == 0:
        async with served(SERVICE, {"pipelines": folder}) as router:
            yield Operator(router.client()), executors
        return
    file = executor_pb2.DESCRIPTOR
    async with (
        served(_definition("executor", file, "ExecutorService", executors[0])) as first,
        served(_definition("executor", file, "ExecutorService", executors[-1])) as last,
    ):
        target = first.target if count == 1 else f"{first.target},{last.target}"
        settings = {"pipelines": folder, "executor": {"target": target}}
        async with served(SERVICE, settings) as router:
            yield Operator(router.client()), executors


async def test_each_replica_loads_and_unloads(tmp_path: Path) -> None:
    async with replicas(tmp_path, 2) as (operator, executors):
        loaded = await operator.ask(LOAD, model="m", version="2", operator="ops/k")
        assert (loaded.model, loaded.version, loaded.sha256) == ("m", "2", "ab" * 32)
        assert await operator.states() == {"1": ACTIVE, "2": ACTIVE}
        gone = await operator.ask(UNLOAD, model="m", version="1", operator="ops/k")
        assert list(gone.versions) == ["1"]
        for executor in executors:
            assert executor.asked == ["load m:2 for ops/k", "unload m:1 for ops/k"]
            assert set(executor.loaded) == {"2"}


async def test_the_index_shows_the_replica_that_is_least_far(tmp_path: Path) -> None:
    async with replicas(tmp_path, 2) as (operator, executors):
        executors[1].loaded = {"1": LOADING, "2": ACTIVE}
        assert await operator.states() == {"1": LOADING, "2": ACTIVE}


@pytest.mark.parametrize("call", [LOAD, UNLOAD])
async def test_a_refusal_comes_through_with_its_reason(tmp_path: Path, call: Method[Any, Any]) -> None:
    async with replicas(tmp_path, 1) as (operator, [executor]):
        executor.refusal = UNTRUSTED
        with pytest.raises(Fault) as caught:
            await operator.ask(call, model="m", version="1")
        fault = caught.value
        told = fault.code, fault.reason, fault.message
        assert told == (UNTRUSTED.code, UNTRUSTED.reason, UNTRUSTED.message)
        assert fault.metadata["model"] == "m"


async def test_one_replica_that_refuses_is_told_with_how_many_did_not(tmp_path: Path) -> None:
    async with replicas(tmp_path, 2) as (operator, executors):
        executors[1].refusal = UNTRUSTED
        says = "1 of 2 executors did it, another did not: it is not signed"
        with pytest.raises(Fault, match=says) as caught:
            await operator.ask(LOAD, model="m", version="2")
        assert caught.value.reason == Reason.REASON_MODEL_UNTRUSTED


async def test_to_unload_what_one_replica_lacks_is_no_error_and_what_all_lack_is(tmp_path: Path) -> None:
    async with replicas(tmp_path, 2) as (operator, executors):
        del executors[0].loaded["1"]
        assert list((await operator.ask(UNLOAD, model="m", version="1")).versions) == ["1"]
        with pytest.raises(Fault) as caught:
            await operator.ask(UNLOAD, model="m", version="1")
        assert caught.value.code is Code.NOT_FOUND


async def test_a_router_without_an_executor_says_so(tmp_path: Path) -> None:
    async with replicas(tmp_path, 0) as (operator, _):
        with pytest.raises(Fault, match="no executor") as caught:
            await operator.ask(LOAD, model="m")
        assert caught.value.code is Code.FAILED_PRECONDITION


async def test_only_this_installation_changes_what_is_loaded(tmp_path: Path) -> None:
    server = {"listen": "127.0.0.1:0", "allow_plaintext": True}
    settings = RouterConfig.model_validate({"server": server, "pipelines": tmp_path})
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
