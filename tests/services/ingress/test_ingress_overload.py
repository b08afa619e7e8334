"""More than the door has places for: told at once, in every protocol, and the others are not held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from headrace.hop import testing
from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, call, http, infer, infer_refused, rest_body
from tests.services.ingress.ingress_door import (
    DoorProcess,
    FakeRouter,
    Folder,
    definition,
    infer_request,
    prepare,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")
SLOW, QUICK = infer_request([[1, 2]], [8]), infer_request([[1, 2]], [1])
ONE = {"initial": 1, "minimum": 1, "maximum": 1}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def narrow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Folder]:
    """A door with a single place."""
    async with testing.served(definition(FakeRouter())) as harness:
        path = tmp_path_factory.mktemp("narrow")
        path.chmod(0o700)
        folder = prepare(path, harness.target, admission=ONE)
        process = DoorProcess(folder)
        try:
            await process.ready(folder.grpc)
            yield folder
        finally:
            process.kill()


async def test_who_finds_no_place_is_told_at_once_and_when_to_come_again(narrow: Folder) -> None:
    first = asyncio.create_task(infer(narrow, SLOW))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(narrow, QUICK)
    assert time.monotonic() - began < 0.15
    assert not first.done()
    trailing = dict(caught.value.trailing_metadata() or ())
    assert trailing["grpc-retry-pushback-ms"] == "100"
    assert (await infer_refused(narrow, QUICK))[:2] == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    await first
    # The place is free again.
    assert (await infer(narrow, QUICK)).model_name == "double"


async def test_by_rest_it_is_429(narrow: Folder) -> None:
    first = asyncio.create_task(infer(narrow, SLOW))
    await asyncio.sleep(0.1)
    status, _, body = await asyncio.to_thread(http, narrow, "/v2/models/double/infer", rest_body())
    assert status == 429
    assert b"OVERLOADED" in body
    await first


async def test_calls_that_run_no_model_need_no_place(narrow: Folder) -> None:
    first = asyncio.create_task(infer(narrow, SLOW))
    await asyncio.sleep(0.1)
    request = oip.ModelMetadataRequest(name="double")
    reply = await call(narrow, OIP + "ModelMetadata", request, oip.ModelMetadataResponse)
    assert reply.name == "double"
    assert not first.done()
    await first


async def test_a_caller_who_goes_away_leaves_its_place(narrow: Folder) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await infer(narrow, SLOW, timeout=0.05)
    await asyncio.sleep(0.4)
    assert (await infer(narrow, QUICK)).model_name == "double"
