"""The same layers without a socket, several definitions in one process, and the harness that services are tested with."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.wrappers_pb2 import StringValue

from headrace import hop
from headrace.hop import config, testing
from headrace.hop.call import LOCAL_PEER
from headrace.hop.server import hosting
from headrace.hop.server.binding import bind
from headrace.hop.transport.in_process import LocalServers
from headrace.oip import open_inference_pb2
from tests.libs.hop.hop_callee import fault_of, soon
from tests.libs.hop.hop_echo import ECHO, EchoServicer, called, definition


@pytest.fixture
async def local(servicer: EchoServicer) -> AsyncIterator[LocalServers]:
    async with testing.served(definition(servicer), transport="local") as harness:
        yield harness.local


async def test_a_local_call_is_trusted_and_brings_its_metadata(
    local: LocalServers, servicer: EchoServicer
) -> None:
    assert (await called(local, "hello", soon(), ("x-tenant", "t1"))).value == "hello"
    [seen] = servicer.calls
    assert seen.peer is LOCAL_PEER
    assert seen.peer.trusted
    assert seen.metadata == {"x-tenant": "t1"}


async def test_an_unknown_callee_is_unreachable(local: LocalServers) -> None:
    fault = await fault_of(called(local, "hello", soon(), callee="nobody"))
    assert (fault.code, fault.reason) == (hop.Code.UNAVAILABLE, hop.Reason.REASON_UNREACHABLE)


async def test_leaving_waits_for_calls_in_flight_and_refuses_new_ones(servicer: EchoServicer) -> None:
    closed: list[str] = []
    async with testing.served(definition(servicer, closed), transport="local") as harness:
        local = harness.local
        held = asyncio.create_task(called(local, "hold", soon()))
        await asyncio.sleep(0)
        leaving = asyncio.create_task(local.remove("echo", 5.0))
        await asyncio.sleep(0)

        fault = await fault_of(called(local, "hello", soon()))
        assert fault.reason == hop.Reason.REASON_DRAINING
        assert not leaving.done()

        servicer.release.set()
        assert (await held).value == "hold"
        await leaving
        local.add("echo", [hop.Service(ECHO, servicer)], harness.settings.server)
    assert closed == ["echo"]


async def test_a_name_is_hosted_once(local: LocalServers, servicer: EchoServicer) -> None:
    with pytest.raises(ValueError, match="hosted"):
        local.add("echo", [hop.Service(ECHO, servicer)], config.Server(listen="unix:/none"))


def test_a_servicer_that_does_not_fit_its_contract_is_found_at_once() -> None:
    class Wrong:
        def One(self, request: StringValue, call: hop.Call) -> StringValue:
            return request

    class All:
        def __getattr__(self, name: str) -> Any:
            return EchoServicer().One

    streaming = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    complaints: dict[str, tuple[ServiceDescriptor, object]] = {
        "object.One is missing": (ECHO, object()),
        "must be async def": (ECHO, Wrong()),
        "serves unary methods only": (streaming, All()),
    }
    for complaint, (service, servicer) in complaints.items():
        with pytest.raises(TypeError, match=complaint):
            bind([hop.Service(service, servicer)])


class CallerSettings(config.ServiceSettings):
    echo: config.ClientSettings


async def test_hosting_builds_leaves_first_and_closes_them_last() -> None:
    order = []

    def named(name: str, kind: type[config.ServiceSettings]) -> hop.Definition[Any]:
        @asynccontextmanager
        async def build(
            settings: config.ServiceSettings, runtime: hop.Runtime
        ) -> AsyncIterator[Sequence[hop.Service]]:
            order.append(f"open {runtime.name}")
            yield []
            order.append(f"close {runtime.name}")

        return hop.Definition(name, kind, build)

    server = config.Server(listen="unix:/not/bound")
    router = named("router", CallerSettings)
    leaf = named("leaf", config.ServiceSettings)
    telemetry = hop.Telemetry("together", config.Telemetry(log_level="warning"))
    parts = [
        (router, CallerSettings(server=server, echo=config.ClientSettings(target="local"))),
        (leaf, config.ServiceSettings(server=server)),
    ]
    async with hosting.hosted(parts, telemetry) as local:
        assert local.names() == ["leaf", "router"]
        assert telemetry.registry.get_sample_value("headrace_ready", {"service": "leaf"}) == 1
    assert order == ["open leaf", "open router", "close router", "close leaf"]
    assert telemetry.registry.get_sample_value("headrace_ready", {"service": "leaf"}) == 0


def test_an_unknown_service_names_those_there_are() -> None:
    with pytest.raises(config.ConfigError, match="router"):
        hosting.definition_named("rooter")
