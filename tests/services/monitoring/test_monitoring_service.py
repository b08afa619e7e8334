"""The monitoring service over its socket: ticks in, outcomes in, typed refusals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.hop.call import Call, Peer
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from headrace.ticks import Tick
from headrace.ticks.messages import write
from services.monitoring.outcomes.records import Judged
from services.monitoring.servicer import MonitoringServicer
from services.monitoring.wiring import SERVICE
from tests.disks import fill, tiny_disk
from tests.services.monitoring.monitoring_calls import call
from tests.services.monitoring.monitoring_outcomes import exposure, store_at
from tests.services.waiting import until


def outcomes(*requests: str, tenant: str = "acme") -> pb.RecordOutcomesRequest:
    return pb.RecordOutcomesRequest(
        tenant=tenant, outcomes=[pb.Outcome(request_id=r, name="late", label=False) for r in requests]
    )


TOO_MANY = outcomes(*map(str, range(1001)))


def metric(harness: Harness, name: str) -> float | None:
    return harness.runtime.telemetry.registry.get_sample_value(f"headrace_monitoring_{name}")


async def test_ticks_and_outcomes_meet_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "o"
    async with served(SERVICE, {"outcomes": path}) as harness:
        tick = Tick(7, 1, 0, {}, [exposure("a", late=1.0), exposure("b", late=0.0)])
        assert not (await call(harness, "ReportTicks", write(tick))).behind
        second = await call(harness, "ReportTicks", write(Tick(8, 5, 4)))
        assert (second.behind, second.live_router_count) == (True, 2)
        reply = await call(harness, "RecordOutcomes", outcomes("a", "b", "unknown"))
        assert reply.accepted_count == 3
        again = await call(harness, "RecordOutcomes", outcomes("a"))
        assert again.accepted_count == 1
        counted = ("ticks_total", "exposures_total", "outcomes_total", "unmatched_outcomes_total", "routers")
        assert [metric(harness, name) for name in counted] == [2, 2, 3, 1, 2]
    store = store_at(path)
    assert store.judged("flights") == {(3, "live"): Judged(2, 1)}


async def test_values_and_times_are_stored(tmp_path: Path) -> None:
    at = Timestamp(seconds=50, nanos=500_000_000)
    one = pb.Outcome(request_id="a", row=2, name="revenue", number=12.5, time=at)
    request = pb.RecordOutcomesRequest(tenant="acme", outcomes=[one])
    async with served(SERVICE, {"outcomes": tmp_path / "o"}) as harness:
        await call(harness, "RecordOutcomes", request)
    store = store_at(tmp_path / "o")
    with store._database.transaction() as connection:
        [found] = connection.execute(
            "SELECT tenant, request_id, row, name, value, label, time FROM outcomes"
        ).fetchall()
    assert found == ("acme", "a", 2, "revenue", 12.5, 0, 50.5)


async def test_a_full_disk_is_a_typed_refusal_and_passes(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as folder:
        async with served(SERVICE, {"outcomes": folder / "o"}) as harness:
            filler = fill(folder, "filler")
            many = outcomes(*(f"{i}{'x' * 100}" for i in range(1000)))
            with pytest.raises(Fault) as raised:
                await call(harness, "RecordOutcomes", many)
            fault = raised.value
            assert (fault.code, fault.reason) == (Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE)
            assert str(folder) not in fault.message
            assert metric(harness, "storage_failing") == 1
            # Ticks are counted in memory.
            assert not (await call(harness, "ReportTicks", write(Tick(7, 1, 0)))).behind
            filler.unlink()
            assert (await call(harness, "RecordOutcomes", many)).accepted_count == 1000
            assert metric(harness, "storage_failing") == 0


@pytest.mark.parametrize(
    ("name", "request_", "code", "reason"),
    [
        ("ReportTicks", pb.ReportTicksRequest(), Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST),
        ("RecordOutcomes", TOO_MANY, Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE),
    ],
)
async def test_what_no_part_of_the_installation_sends_is_refused(
    name: str, request_: Any, code: Code, reason: Reason
) -> None:
    async with served(SERVICE) as harness:
        with pytest.raises(Fault) as raised:
            await call(harness, name, request_)
        assert (raised.value.code, raised.value.reason) == (code, reason)


async def test_strangers_are_refused() -> None:
    servicer = MonitoringServicer(None, None, None, time.time)  # type: ignore[arg-type]  # refused before they are used
    call = Call("m", Peer("tcp"))
    for ask_it in (
        servicer.ReportTicks(pb.ReportTicksRequest(), call),
        servicer.RecordOutcomes(outcomes("a"), call),
    ):
        with pytest.raises(Fault) as raised:
            await ask_it
        assert raised.value.reason == Reason.REASON_PEER_UNTRUSTED


async def test_old_outcomes_are_swept_while_it_runs(tmp_path: Path) -> None:
    settings = {"outcomes": tmp_path / "o", "sweep_s": 0.01, "retention": {"days": 1e-9}}
    async with served(SERVICE, settings) as harness:
        await call(harness, "RecordOutcomes", outcomes("a", "b"))
        await until(lambda: metric(harness, "swept_rows_total") == 2)


async def test_the_default_is_memory() -> None:
    async with served(SERVICE) as harness:
        assert (await call(harness, "RecordOutcomes", outcomes("a"))).accepted_count == 1
