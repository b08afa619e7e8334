"""Refusals that are sure to come are made at once: alike for the caller, counted, over as soon as there is room; and more
than the door has places for: told at once, in every protocol, and the others are not held up."""

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest

from headrace.oip import open_inference_pb2 as oip
from tests.services.ingress.ingress_calls import OIP, call, http, infer, rest_body, unary
from tests.services.ingress.ingress_door import FakeRouter, Folder, infer_request
from tests.services.ingress.lane.lane_builds import need_lane
from tests.services.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")
QUICK = infer_request([[1, 2]], [1])
_SHED = re.compile(r'^headrace_ingress_shed_total\{fault="\w+",tenant="(\w+)"\} ([\d.]+)', re.M)
_REFUSED = re.compile(
    r'^headrace_ingress_requests_total\{code="RESOURCE_EXHAUSTED",.*,tenant="(\w+)"\} ([\d.]+)', re.M
)
# A storm is over for its tenant in a moment, of which a busy machine makes seconds.
_OVER_S = 20.0


class Caller:
    """Calls over one connection, as the demo's tenant or another; what became of each, in order."""

    def __init__(self, door: Folder, key: str) -> None:
        self._channel = grpc.aio.insecure_channel(door.grpc)
        self._call = unary(self._channel, OIP + "ModelInfer", oip.ModelInferResponse)
        self._key = key

    async def outcome(self, request: oip.ModelInferRequest = QUICK) -> tuple[str, dict[str, Any]]:
        """The status and all metadata."""
        call = self._call(request, timeout=60, metadata=(("x-api-key", self._key),))
        code = await call.code()
        found = [*(await call.initial_metadata()), *(await call.trailing_metadata())]
        return cast("str", code.name), dict(found)

    async def close(self) -> None:
        await self._channel.close()


def counted(door: Folder, pattern: re.Pattern[str]) -> Counter[str]:
    return Counter({tenant: int(float(number)) for tenant, number in pattern.findall(door.metrics())})


async def test_a_storm_is_refused_alike_and_counted(narrow: Folder, narrow_router: FakeRouter) -> None:
    need_lane()
    before, refused_before = counted(narrow, _SHED)["demo"], counted(narrow, _REFUSED)["demo"]
    caller = Caller(narrow, narrow.keys.demo)
    try:
        async with narrow_router.holding(caller.outcome) as slow:
            outcomes = [
                outcome
                for _ in range(10)
                for outcome in await asyncio.gather(*[caller.outcome() for _ in range(20)])
            ]
            assert not slow.done()
        assert (await slow)[0] == "OK"
        assert {code for code, _ in outcomes} == {"RESOURCE_EXHAUSTED"}
        told = {metadata["grpc-status-details-bin"] for _, metadata in outcomes}
        assert len(told) == 1
        assert all(metadata["grpc-retry-pushback-ms"] == "100" for _, metadata in outcomes)
        assert len({metadata["x-request-id"] for _, metadata in outcomes}) == len(outcomes)
        # The next call that is let through tells how many were not.
        assert await until_answered(caller) < _OVER_S
        shed = counted(narrow, _SHED)["demo"] - before
        assert shed > 100
        # Of those a hundredth has a line in the access log, of all others each has one.
        await until(lambda: refused_lines(narrow) >= len(outcomes) - shed)
        lines = await settled(lambda: refused_lines(narrow))
        assert len(outcomes) - shed <= lines < len(outcomes) - shed / 2
        assert counted(narrow, _REFUSED)["demo"] - refused_before >= len(outcomes)
    finally:
        await caller.close()


def refused_lines(narrow: Folder) -> int:
    """Lines about them in the access log."""
    return (narrow.path / "access.log").read_text().count('"ResourceExhausted"')


async def settled(read: Callable[[], int]) -> int:
    """What no longer changes for more than a second: Envoy writes its lines out once a second."""
    found, since = read(), time.monotonic()
    while time.monotonic() - since < 1.3:
        await asyncio.sleep(0.1)
        if (now := read()) != found:
            found, since = now, time.monotonic()
    return found


async def until_answered(caller: Caller) -> float:
    began = time.monotonic()
    while (await caller.outcome())[0] != "OK":
        assert time.monotonic() - began < 60
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_one_tenants_storm_costs_no_call_of_another(narrow: Folder, narrow_router: FakeRouter) -> None:
    stormy, modest = Caller(narrow, narrow.keys.demo), Caller(narrow, narrow.keys.slow)
    try:
        assert await until_answered(stormy) < _OVER_S
        async with narrow_router.holding(stormy.outcome) as slow:
            await asyncio.gather(*[stormy.outcome() for _ in range(100)])
        assert (await slow)[0] == "OK"
        assert (await modest.outcome())[0] == "OK"
    finally:
        await stormy.close()
        await modest.close()


async def test_calls_over_a_quota_are_refused_at_once_too(narrow: Folder) -> None:
    need_lane()
    before = counted(narrow, _SHED)["slow"]
    caller = Caller(narrow, narrow.keys.slow)
    try:
        began = time.monotonic()
        outcomes = [await caller.outcome() for _ in range(60)]
        # The bucket holds one token, and gives another one in two seconds.
        passed = 1 + math.ceil((time.monotonic() - began) / 2)
        refusals = [metadata for code, metadata in outcomes if code == "RESOURCE_EXHAUSTED"]
        assert len(refusals) >= 60 - passed
        assert all(b"QUOTA_EXCEEDED" in metadata["grpc-status-details-bin"] for metadata in refusals)
        # The next token comes by, and is taken.
        await until_answered(caller)
        assert counted(narrow, _SHED)["slow"] - before > 30
    finally:
        await caller.close()


async def test_by_rest_it_is_429(narrow: Folder, narrow_router: FakeRouter) -> None:
    async with narrow_router.holding(lambda: infer(narrow, QUICK)) as first:
        status, headers, body = await http(narrow, "/v2/models/double/infer", rest_body())
    assert (status, int(headers["retry-after"]) >= 1) == (429, True)
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


async def place_is_free(narrow: Folder) -> None:
    """Waits until a call gets the place, as it does a moment after who had it is gone (or Envoy knows it)."""
    caller = Caller(narrow, narrow.keys.demo)
    await until_answered(caller)
    await caller.close()
