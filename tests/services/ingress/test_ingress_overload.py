"""More than the door has places for: told at once, in every protocol, and the others are not held up."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, call, http, infer, infer_refused, rest_body
from tests.services.ingress.ingress_door import FakeRouter, Folder, infer_request

pytestmark = pytest.mark.asyncio(loop_scope="session")
QUICK = infer_request([[1, 2]], [1])


async def test_who_finds_no_place_is_refused_at_once_with_a_time_to_try_again(
    narrow: Folder, narrow_router: FakeRouter
) -> None:
    # While the one place is held, whatever ends has not waited for it.
    async with narrow_router.holding(lambda: infer(narrow, QUICK)) as first:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer(narrow, QUICK)
        assert not first.done()
        trailing = dict(caught.value.trailing_metadata() or ())
        assert trailing["grpc-retry-pushback-ms"] == "100"
        assert (await infer_refused(narrow, QUICK))[:2] == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert not first.done()
    await first
    # The place is free again.
    await place_is_free(narrow)


async def test_by_rest_it_is_429(narrow: Folder, narrow_router: FakeRouter) -> None:
    async with narrow_router.holding(lambda: infer(narrow, QUICK)) as first:
        status, _, body = await http(narrow, "/v2/models/double/infer", rest_body())
    assert status == 429
    assert b"OVERLOADED" in body
    await first
    await place_is_free(narrow)


async def test_calls_that_run_no_model_need_no_place(narrow: Folder, narrow_router: FakeRouter) -> None:
    async with narrow_router.holding(lambda: infer(narrow, QUICK)) as first:
        request = oip.ModelMetadataRequest(name="double")
        reply = await call(narrow, OIP + "ModelMetadata", request, oip.ModelMetadataResponse)
        assert reply.name == "double"
        assert not first.done()
    await first
    await place_is_free(narrow)


async def test_a_caller_who_goes_away_leaves_its_place(narrow: Folder, narrow_router: FakeRouter) -> None:
    async with narrow_router.holding(lambda: infer(narrow, QUICK)) as first:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        # Nobody has answered it, so what is free is what it left.
        await place_is_free(narrow)


async def place_is_free(narrow: Folder) -> None:
    """Waits until a call gets the place, as it does a moment after who had it is gone (or Envoy knows it)."""
    async with asyncio.timeout(60):
        while True:
            try:
                assert (await infer(narrow, QUICK)).model_name == "double"
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.02)
            else:
                return
