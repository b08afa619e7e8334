"""Calls of Feast's RPC that come at the same time are read together, and each gets what it gets alone."""

import asyncio
import random
import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from headrace.hop.call import methods_of
from headrace.hop.client.dial import UnaryCall
from headrace.hop.errors import Fault
from headrace.hop.testing import Harness
from services.features.feast.messages import RepeatedValue, Value
from services.features.feast.messages import serving as pb
from services.features.feast_servicer import DESCRIPTOR
from services.features.grouping import Grouping
from tests.services.features.calling import metrics_of, serving

[GET] = [method for method in methods_of(DESCRIPTOR) if method.name == "GetOnlineFeatures"]


def query(dice: random.Random) -> pb.GetOnlineFeaturesRequest:
    """A call of some rows; one in ten is wrong in some way."""
    request = pb.GetOnlineFeaturesRequest(full_feature_names=dice.random() < 0.2)
    if dice.random() < 0.3:
        request.features.val.extend(["planes:seats", "planes:rating", "airports:delay"])
    else:
        request.feature_service = "small"
    rows = dice.choice([1, 1, 1, 2, 12])
    tails = [Value(string_val=f"p{dice.randrange(40)}") for _ in range(rows)]
    airports = [Value(int64_val=dice.choice([1, 2, 9])) for _ in range(rows)]
    carriers = [Value(string_val=dice.choice(["UA", "DL"])) for _ in range(rows)]
    wrong = dice.randrange(40)
    if wrong == 0:
        tails[0] = Value(double_val=1.5)
    elif wrong == 1:
        carriers.pop()
    elif wrong == 2:
        tails[-1] = Value()
    for name, values in (("tail", tails), ("airport", airports), ("carrier", carriers)):
        if wrong != 3 or name != "airport":
            request.entities[name].CopyFrom(RepeatedValue(val=values))
    return request


async def answer(call: UnaryCall[Any, Any], request: pb.GetOnlineFeaturesRequest) -> object:
    try:
        reply = await call(request, deadline=time.monotonic() + 60)
    except Fault as fault:
        return fault.code, fault.message
    return dict(zip(reply.metadata.feature_names.val, map(str, reply.results), strict=True))


def reads(harness: Harness) -> float:
    [found] = re.findall(r"headrace_features_read_seconds_count (\S+)", metrics_of(harness))
    return float(found)


@pytest.mark.parametrize("kind", ["sqlite_repo", "redis_repo"])
@pytest.mark.parametrize("cache_s", [0.0, 1000.0])
async def test_together_each_gets_what_it_gets_alone(
    request: pytest.FixtureRequest, now: datetime, kind: str, cache_s: float
) -> None:
    dice = random.Random(7)
    requests = [query(dice) for _ in range(200)]
    async with serving(request.getfixturevalue(kind), cache_s=cache_s) as harness:
        call = harness.client().unary(GET)
        alone = [await answer(call, one) for one in requests]
        before = reads(harness)
        together: list[object] = []
        for start in range(0, len(requests), 20):
            together += await asyncio.gather(*[answer(call, one) for one in requests[start : start + 20]])
        assert together == alone
        assert sum(type(one) is tuple for one in alone) > 5
        assert reads(harness) - before < before / 2


async def test_one_that_is_wrong_or_gone_leaves_the_others_their_replies() -> None:
    served: list[Sequence[int]] = []
    release = asyncio.Event()

    async def serve(items: Sequence[int]) -> list[int]:
        served.append(items)
        await release.wait()
        if 3 in items:
            raise ValueError("three")
        return [10 * item for item in items]

    grouping = Grouping(serve)
    tasks = [asyncio.create_task(grouping.submit("key", item)) for item in range(6)]
    while len(served) < 2:
        await asyncio.sleep(0)
    tasks[5].cancel()
    release.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert served[:2] == [[0], [1, 2, 3, 4, 5]], "the first waits for nobody, and the others for it"
    assert found[:3] == [0, 10, 20]
    assert isinstance(found[3], ValueError)
    assert found[4] == 40
    assert isinstance(found[5], asyncio.CancelledError)


async def test_a_single_caller_is_served_at_once() -> None:
    async def serve(items: Sequence[int]) -> Sequence[int]:
        return items

    grouping = Grouping(serve)
    waited = 0
    for item in range(320):
        call = grouping.submit("key", item)
        try:
            call.send(None)
        except StopIteration:
            continue
        call.close()
        waited += 1
    assert waited == 10
