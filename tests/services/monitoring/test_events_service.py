"""EventsService over its socket: typed refusals, and observers that see each event once whatever they do."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.api.monitoring.v1 import explanations_pb2
from headrace.columns import Batch, Column
from headrace.events import EventGroup, GroupHeader, Mask, messages
from headrace.hop.call import Call, Peer
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import served
from headrace.ticks import Tick
from services.monitoring.events.metrics import EventMetrics
from services.monitoring.events.ports import EventObserver
from services.monitoring.events.reception import Reception
from services.monitoring.events.servicer import EventsServicer
from services.monitoring.wiring import SERVICE
from tests.disks import fill, tiny_disk
from tests.services.monitoring.monitoring_calls import call, report
from tests.services.monitoring.monitoring_events import World, group
from tests.services.monitoring.monitoring_outcomes import Log


def stored_in(folder: Path) -> dict[str, Any]:
    return {"database": str(folder / "facts.sqlite"), "events": {"files": str(folder / "events")}}


async def test_events_come_in_and_are_found_erased_and_missed(tmp_path: Path) -> None:
    async with served(SERVICE, stored_in(tmp_path)) as harness:
        request = messages.write(
            "router-1", 7, 9, [group(1, 3, now=time.time()), group(6, 2, now=time.time())]
        )
        assert (await report(harness, events=request)).events.stored_count == 5
        assert (await report(harness, events=request)).events.stored_count == 0
        found = await call(harness, "ListEvents", pb.ListEventsRequest(tenant="acme", limit=2))
        assert [json.loads(e.content_json)["request_id"] for e in found.events] == ["r7", "r6"]
        one = await call(
            harness, "ListEvents", pb.ListEventsRequest(prediction_id=found.events[0].prediction_id)
        )
        assert list(one.events) == [found.events[0]]
        assert (one.events[0].prediction_id, len(one.events[0].event_id)) == ("r7/0", 32)
        chosen = pb.ListEventsRequest(limit=3)
        page = await call(harness, "ReadEvents", pb.ReadEventsRequest(chosen=chosen))
        more = await call(harness, "ReadEvents", pb.ReadEventsRequest(chosen=chosen, page=page.next_page))
        read = [messages.read_group("", g) for reply in (page, more) for g in reply.groups]
        assert [i for g in read for i in g.batch.rows.request_ids] == ["r7", "r6", "r3", "r2", "r1"]
        assert more.next_page == ""
        [stream] = (await call(harness, "ListEventGaps", pb.ListEventGapsRequest())).streams
        assert (stream.replica, stream.epoch) == ("router-1", 7)
        assert (stream.noted_count, stream.stored_count) == (9, 5)
        assert [(g.first, g.last) for g in stream.gaps] == [(4, 5), (8, 9)]
        erased = await call(harness, "EraseEvents", pb.EraseEventsRequest(tenant="acme", request_ids=["r6"]))
        assert (erased.erased_count, erased.rewritten_segment_count) == (1, 1)


def renamed(given: EventGroup, old: str, new: str) -> EventGroup:
    columns = [c.renamed(new) if c.name == old else c for c in given.batch.columns.values()]
    return EventGroup(given.header, Batch.of(given.batch.rows, columns))


@pytest.mark.parametrize("durable", [False, True])
async def test_groups_of_another_generation_are_refused_by_name_and_the_others_stored(
    tmp_path: Path, *, durable: bool
) -> None:
    # As routers before 14423f14 named it.
    other = renamed(group(4, 2, now=time.time()), "@event_id", "@prediction_id")
    async with served(SERVICE, stored_in(tmp_path)) as harness:
        groups = [group(1, 3, now=time.time()), other, group(6, 1, now=time.time())]
        request = messages.write("router-1", 7, 6, groups)
        if durable:  # the journal must keep it
            with pytest.raises(Fault, match=r"groups\[1\].batch: the column @event_id"):
                await report(harness, events=request, durable=True)
        else:
            receipt = (await report(harness, events=request)).events
            assert (receipt.stored_count, receipt.dropped_count) == (4, 2)
            assert "groups[1].batch: the column @event_id" in receipt.problem
        [stream] = (await call(harness, "ListEventGaps", pb.ListEventGapsRequest())).streams
        assert [(g.first, g.last) for g in stream.gaps] == [(4, 5)]
        registry = harness.runtime.telemetry.registry
        assert registry.get_sample_value("headrace_monitoring_refused_events_total") == 2


NOBODY = pb.EventSubject(column="key")
TWO_IDS = pb.ListEventsRequest(prediction_id="r7/0", request_id="r8")


@pytest.mark.parametrize(
    ("name", "request_", "reason", "field"),
    [
        ("EraseEvents", pb.EraseEventsRequest(), "ERASURE_NAMES_NOBODY", "tenant"),
        ("EraseEvents", pb.EraseEventsRequest(whole_tenant=True), "ERASURE_NAMES_NOBODY", "tenant"),
        ("EraseEvents", pb.EraseEventsRequest(tenant="a"), "ERASURE_NAMES_NOBODY", "whole_tenant"),
        (
            "EraseEvents",
            pb.EraseEventsRequest(tenant="a", subjects=[NOBODY]),
            "ERASURE_NAMES_NOBODY",
            "subjects",
        ),
        ("ListEvents", pb.ListEventsRequest(prediction_id="xyz"), "MALFORMED_REQUEST", "prediction_id"),
        ("ListEvents", pb.ListEventsRequest(prediction_id="r7/x"), "MALFORMED_REQUEST", "prediction_id"),
        ("ListEvents", TWO_IDS, "MALFORMED_REQUEST", "request_id"),
        ("ReadEvents", pb.ReadEventsRequest(page="17"), "MALFORMED_REQUEST", "page"),
        ("ListEvents", pb.ListEventsRequest(limit=1001), "MALFORMED_REQUEST", "limit"),
    ],
)
async def test_a_wrong_request_is_named(name: str, request_: Any, reason: str, field: str) -> None:
    reception = Reception(None, Mask(None), [], EventMetrics(CollectorRegistry()), time.time, Log())
    call = Call(f"/x/{name}", Peer("unix", "router", True))
    with pytest.raises(Fault) as raised:
        await getattr(EventsServicer(reception), name)(request_, call)
    found = raised.value.code, Reason.Name(raised.value.reason)
    assert found == (Code.INVALID_ARGUMENT, f"REASON_{reason}")
    assert field in raised.value.metadata["field"]
    await reception.close()


async def test_each_part_says_what_a_full_disk_refused(tmp_path: Path) -> None:
    events = messages.write("router-1", 7, 3, [group(1, 3, now=time.time())])
    explained = explanations_pb2.ExplanationReport(number=1)
    with tiny_disk(tmp_path) as folder:
        async with served(SERVICE, stored_in(folder)) as harness:
            filler = fill(folder, "filler")
            with pytest.raises(Fault) as raised:
                await report(harness, events=events, durable=True)
            fault = raised.value
            assert (fault.code, fault.reason) == (Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE)
            reply = await report(harness, Tick(7, 1, 0), events=events, explanations=explained)
            assert (reply.events.dropped_count, reply.events.again) == (3, False)
            assert reply.explanations.again
            # Counts are in memory.
            assert reply.tick.live_router_count == 1
            filler.unlink()
            assert (await report(harness, events=events, durable=True)).events.stored_count == 3
            reply = await report(harness, explanations=explained)
            assert not reply.explanations.again


class Watching:
    """Keeps the numbers that it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, list[int], float]] = []

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        self.seen.append((header.pipeline, header.revision[:2], header.arm, columns["x"].array.tolist(), now))


class Broken:
    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        raise RuntimeError("a bug")


@pytest.mark.parametrize("stores", [True, False])
async def test_observers_see_each_event_once_whatever_another_does(tmp_path: Path, stores: bool) -> None:
    world, watching = World(tmp_path), Watching()
    metrics = EventMetrics(CollectorRegistry())
    observers: list[EventObserver] = [Broken(), watching]
    reception = Reception(
        world.store if stores else None, Mask(None), observers, metrics, lambda: 5.0, world.log
    )
    await reception.take("r", 7, 3, [group(1, 3)], durable=False)
    if stores:
        await reception.take("r", 7, 5, [group(2, 4)], durable=False)
    assert watching.seen == [
        ("flights", "ff", "live", [1, 2, 3], 5.0),
        *([("flights", "ff", "live", [4, 5], 5.0)] if stores else []),
    ]
    assert "events were not observed" in world.log.events
    await reception.close()
    world.close()
