"""The harness that services are tested with: one client code for both transports, and hosted neighbours."""

from __future__ import annotations

import time
from typing import Any, Literal

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config, testing
from tests.libs.hop.hop_echo import ONE, EchoServicer, definition


@pytest.mark.parametrize("transport", ["unix", "local"])
async def test_a_client_calls_the_served_definition(transport: Literal["unix", "local"]) -> None:
    servicer = EchoServicer()
    async with testing.served(definition(servicer), transport=transport) as harness:
        one = harness.client().unary(ONE)
        reply = await one(StringValue(value="hello"), deadline=time.monotonic() + 60)
        with pytest.raises(hop.Fault) as caught:
            await one(StringValue(value="fault"), deadline=time.monotonic() + 60)

    assert reply.value == "hello"
    assert caught.value.reason == hop.Reason.REASON_MODEL_UNKNOWN
    assert servicer.calls[0].peer.transport == transport
    assert servicer.calls[0].peer.trusted


@pytest.mark.parametrize("transport", ["unix", "local"])
async def test_hosted_neighbours_are_called_locally(transport: Literal["unix", "local"]) -> None:
    neighbour = EchoServicer()
    other = hop.Definition("neighbour", *_parts(definition(neighbour)))
    async with testing.served(definition(), transport=transport, hosted=[(other, {})]) as harness:
        one = harness.client("neighbour").unary(ONE)
        await one(StringValue(value="hello"), deadline=time.monotonic() + 60)
    assert neighbour.calls[0].peer.transport == "local"


def _parts(made: hop.Definition[Any]) -> tuple[Any, Any]:
    return made.config, made.build


async def test_settings_may_be_a_mapping_or_an_object() -> None:
    made = definition()
    given = made.config(server=config.Server(listen="unix:/not/used", max_concurrent_calls=7))
    for settings in (given, {"server": {"max_concurrent_calls": 7}}):
        async with testing.served(made, settings) as harness:
            assert harness.settings.server.max_concurrent_calls == 7
            assert harness.target.startswith(f"unix:{harness.directory}")
