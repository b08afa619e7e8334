"""Idempotency keys are sent as they are given, with each try of a call."""

import asyncio

from headrace.client import AsyncHeadrace, Headrace
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness
from tests.libs.client.client_server import Inference


async def test_a_key_goes_with_each_try_and_only_where_it_is_given(
    client: AsyncHeadrace, inference: Inference
) -> None:
    inference.script.append(Fault(Code.UNAVAILABLE, Reason.REASON_OVERLOADED, "busy", retry_after_s=0.0))
    await client.predict("flights", {"x": 1}, idempotency_key="once")
    await client.predict_columns("flights", {"x": [1.0]}, idempotency_key="columns")
    await client.predict("flights", {"x": 1})
    assert inference.idempotency_keys == ["once", "once", "columns", None]


async def test_a_blocking_client_sends_it_too(server: Harness, inference: Inference) -> None:
    def call() -> None:
        with Headrace(server.target) as client:
            client.predict("flights", {"x": 1}, idempotency_key="once")

    await asyncio.to_thread(call)
    assert inference.idempotency_keys == ["once"]
