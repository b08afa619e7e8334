"""Calls of Feast's RPC that come at the same time are read together, and each gets what it gets alone."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from headrace.hop.call import methods_of
from headrace.hop.client.dial import UnaryCall
from headrace.hop.errors import Fault
from services.features.call_groups import CallGroups
from services.features.feast.messages import RepeatedValue, Value
from services.features.feast.messages import serving as pb
from services.features.feast_servicer import DESCRIPTOR
from tests.services.features.calling import serving

[GET] = [method for method in methods_of(DESCRIPTOR) if method.name == "GetOnlineFeatures"]
READS = "headrace_features_read_seconds_count"


def query(dice: random.Random) -> pb.GetOnlineFeaturesRequest:
    """A call of some rows; one in ten has a key of another type, or too few of them."""
    request = pb.GetOnlineFeaturesRequest(feature_service="small", full_feature_names=dice.random() < 0.2)
    request.features.val.extend(dice.choice([[], [], ["planes:seats", "planes:rating", "airports:delay"]]))
    rows, wrong = dice.choice([1, 1, 2, 12]), dice.randrange(20)
    tails = [Value(double_val=1.5) if wrong == 0 else Value(string_val=f"p{dice.randrange(40)}")] * rows
    airports = [Value(int64_val=dice.choice([1, 2, 9])) for _ in range(rows - (wrong == 1))]
    for name, values in (
        ("tail", tails),
        ("airport", airports),
        ("carrier", [Value(string_val="UA")] * rows),
    ):
        request.entities[name].CopyFrom(RepeatedValue(val=values))
    return request


async def answer(call: UnaryCall[Any, Any], request: pb.GetOnlineFeaturesRequest) -> tuple[object, ...]:
    try:
        reply = await call(request, deadline=time.monotonic() + 60)
    except Fault as fault:
        return fault.code, fault.message
    return reply.metadata.feature_names.val, list(reply.results), reply.status


@pytest.mark.parametrize("cache_s", [0.0, 1000.0])
async def test_together_each_gets_what_it_gets_alone(redis_repo: Path, now: datetime, cache_s: float) -> None:
    requests = list(map(query, [random.Random(7)] * 200))
    async with serving(redis_repo, cache_s=cache_s) as harness:
        call = harness.client().unary(GET)
        alone = [await answer(call, one) for one in requests]
        before = harness.runtime.telemetry.registry.get_sample_value(READS)
        parts = [[answer(call, one) for one in requests[start : start + 20]] for start in range(0, 200, 20)]
        assert [one for part in parts for one in await asyncio.gather(*part)] == alone
        assert sum(len(one) == 2 for one in alone) > 2
        assert harness.runtime.telemetry.registry.get_sample_value(READS) < before * 1.5


async def test_one_that_is_wrong_or_gone_leaves_the_others_their_replies() -> None:
    served = []

    async def serve(items: Sequence[int]) -> list[int]:
        served.append(items)
        await asyncio.sleep(0)
        return [12 // (item - 3) for item in items]

    groups = CallGroups(serve)
    tasks = [asyncio.create_task(groups.submit("key", item)) for item in range(6)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert served[:2] == [[0], [1, 2, 3, 4, 5]], "the first waits for nobody, and the others for it"
    assert [one if isinstance(one, int) else type(one) for one in found] == [
        -4, -6, -12, ZeroDivisionError, 12, asyncio.CancelledError,
    ]  # fmt: skip
