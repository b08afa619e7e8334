"""The SDK reports outcomes: what it sends, in which parts, and what it refuses to send."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.client import AsyncHeadrace, Headrace, Outcome, UnavailableError
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from tests.libs.client.client_server import Inference, definition, unavailable


async def test_labels_numbers_and_times_are_sent() -> None:
    inference, when = Inference(), datetime(2026, 1, 2, 3, 4, 5, 500_000, UTC)
    outcomes = [
        Outcome("r", "late", True),
        Outcome("r", "revenue", 2.5, row=3, time=when),
        Outcome("r", "n", 4),
    ]
    async with served(definition(inference)) as server, AsyncHeadrace(server.target, key="k") as client:
        assert await client.record_outcomes(outcomes) == 3
        assert await client.record_outcomes([]) == 0
    [[label, number, whole]] = inference.outcomes
    assert (label.request_id, label.row, label.name, label.WhichOneof("value"), label.label) == (
        "r",
        0,
        "late",
        "label",
        True,
    )
    assert (number.row, number.number, number.time.ToDatetime(UTC)) == (3, 2.5, when)
    assert not label.HasField("time")
    assert (whole.WhichOneof("value"), whole.number) == ("number", 4.0)


async def test_many_go_a_thousand_a_call_and_a_call_is_tried_again() -> None:
    inference = Inference(script=[unavailable()])
    async with served(definition(inference)) as server, AsyncHeadrace(server.target, key="k") as client:
        assert await client.record_outcomes(Outcome(str(i), "late", False) for i in range(2500)) == 2500
    assert [len(call) for call in inference.outcomes] == [1000, 1000, 500]


async def test_a_refusal_is_an_exception_with_its_reason() -> None:
    full = Fault(Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE, "the disk is full")
    inference = Inference(script=[full.copy() for _ in range(5)])
    async with (
        served(definition(inference)) as server,
        AsyncHeadrace(server.target, key="k", attempts=1) as client,
    ):
        with pytest.raises(UnavailableError) as raised:
            await client.record_outcomes([Outcome("r", "late", True)])
    assert raised.value.reason == "STORAGE_UNAVAILABLE"


@pytest.mark.parametrize(
    ("fields", "error"),
    [({"time": datetime(2026, 1, 1)}, ValueError), ({"value": "yes"}, TypeError), ({"row": -1}, ValueError)],
)
async def test_what_cannot_be_sent_is_refused_here(fields: dict[str, Any], error: type[Exception]) -> None:
    inference = Inference()
    values: dict[str, Any] = {"request_id": "r", "name": "late", "value": True, **fields}
    async with served(definition(inference)) as server, AsyncHeadrace(server.target, key="k") as client:
        with pytest.raises(error):
            await client.record_outcomes([Outcome(**values)])
    assert inference.outcomes == []


async def test_without_asyncio_too() -> None:
    inference = Inference()

    def report(target: str) -> int:
        with Headrace(target, key="k") as client:
            return client.record_outcomes([Outcome("r", "late", True)])

    async with served(definition(inference)) as server:
        assert await asyncio.to_thread(report, server.target) == 1
