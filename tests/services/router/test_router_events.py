"""Events over sockets: what the router answered is what the monitoring service stored, and neither waits for the other."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.hop.errors import Code, Fault, Reason
from services.router.events import sender
from services.router.events.metrics import EventMetrics
from services.router.events.regulated import collection
from services.router.events.ring import Notes
from services.router.events.settings import EventsSettings
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.router.router_leaves import (
    FREE,
    REGULATED,
    SCORED,
    Monitoring,
    Suite,
    batch_of,
    monitored,
    suite,
)
from tests.services.waiting import until

PRIVATE = SCORED.replace("key: {type: string}", "key: {type: string, pii: true}")
BOTH = {"scored": REGULATED, "free": FREE}
SLOW = {"wait_s": 0.02}


@dataclass
class World:
    started: Suite
    receiver: Monitoring

    @property
    def numbers(self) -> list[int]:
        """Of the events, as they came."""
        return [n for g in self.receiver.groups for n in g.batch.columns["@sequence"].array.tolist()]

    def metric(self, name: str, **labels: str) -> float:
        return self.started.sample(f"router_{name}", **labels) or 0.0


@asynccontextmanager
async def running(folder: Path, text: str = SCORED, **events: Any) -> AsyncIterator[World]:
    documents, given = folder / "documents", {**SLOW, **events}
    async with monitored(documents, {"scored": text}, events=given) as (started, receiver):
        yield World(started, receiver)


async def events_of(folder: Path, keys: list[str], xs: list[float], *text: str, **events: Any) -> Monitoring:
    """What was received after a request with these rows."""
    async with running(folder, *text, **events) as world:
        await world.started.ask("scored", batch_of(keys, xs, request_id="one"))
        await until(lambda: world.receiver.events)
    return world.receiver


async def test_an_event_has_the_request_and_the_answer(tmp_path: Path) -> None:
    [group] = (await events_of(tmp_path, ["ab", "?"], [1.0, -9.0])).groups
    header, columns = group.header, group.batch.columns
    assert (header.pipeline, header.version, header.arm, header.experiment) == ("scored", 3, "live", "")
    assert [(m.stage, m.model, m.version, m.sha256) for m in header.models] == [
        ("sum", "adder", "7", "ab" * 32)
    ]
    assert (header.inputs, header.features, header.outputs) == (("key", "x"), ("score",), ("y", "positive"))
    assert group.batch.rows.request_ids == ["one", "one"]
    assert columns["key"].text() == ["ab", "?"]
    assert columns["score"].is_valid().tolist() == [True, False]
    assert columns["y"].array.tolist() == [3.0, -10.0]
    assert columns["@sequence"].array.tolist() == [1, 2]
    assert columns["@row"].array.tolist() == [0, 1]
    assert columns["@code"].array.tolist() == [0, 0]
    assert columns["@fallbacks"].array.tolist() == [0, 1]
    assert header.fallbacks == ("features/user:not_found",)
    assert columns["@latency_us"].array.min() > 0
    assert {n for n in columns if n.startswith("@stage_us/")} == {
        f"@stage_us/{s}" for s in ("store", "prepare", "sum", "finish")
    }
    ids = columns["@event_id"].ragged.to_list()
    assert len(set(ids)) == 2
    assert abs(int.from_bytes(ids[0][:6], "big") - time.time() * 1000) < 600_000


async def test_an_event_of_a_row_that_failed_says_why_and_has_no_outputs(tmp_path: Path) -> None:
    text = SCORED.replace("on_missing: default", "on_missing: refuse")
    [group] = (await events_of(tmp_path, ["ab", "?"], [1.0, -9.0], text)).groups
    columns = group.batch.columns
    assert columns["@code"].array.tolist() == [0, int(Code.FAILED_PRECONDITION)]
    assert columns["@reason"].array.tolist() == [0, int(Reason.REASON_FEATURE_UNAVAILABLE)]
    assert columns["y"].is_valid().tolist() == [True, False]
    assert columns["x"].array.tolist() == [1.0, -9.0]


async def test_personal_data_never_leaves_in_the_clear(tmp_path: Path) -> None:
    salt = tmp_path / "salt"
    salt.write_text("s" * 32)
    keys = ["secret-a", "secret-b", "secret-a"]
    receiver = await events_of(tmp_path, keys, [1.0, 2.0, 3.0], PRIVATE, salt=salt)
    [request], [group] = receiver.events, receiver.groups
    assert b"secret" not in request.SerializeToString()
    assert group.header.masked == ("key",)
    first, second, third = group.batch.columns["key"].ragged.to_list()
    assert (first == third, first == second, len(first)) == (True, False, 16)


async def test_without_a_salt_personal_data_is_left_out(tmp_path: Path) -> None:
    [group] = (await events_of(tmp_path, ["secret"], [1.0], PRIVATE)).groups
    assert group.batch.columns["key"].text() == [None]


@pytest.mark.parametrize("text", [SCORED, REGULATED], ids=["message", "journal"])
async def test_what_fails_comes_later_and_nothing_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(sender, "_AGAIN_S", 0.01)
    folder = tmp_path / "journal"
    async with running(tmp_path, text, journal={"folder": folder, "collect_s": 0.01}) as world:
        world.receiver.faults[pb.RecordEventsRequest] = Fault(
            Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE, "full"
        )
        for i in range(5):
            batch = batch_of(["ab"], [1.0], request_id=f"r{i}")
            assert not (await world.started.ask("scored", batch)).batch.errors
        await until(lambda: world.receiver.refused)
        assert bool(list(folder.glob("*.journal"))) == (text == REGULATED)
        world.receiver.faults.clear()
        await until(lambda: len(world.numbers) == 5)
        await until(lambda: not list(folder.glob("*")))
    assert sorted(world.numbers) == [1, 2, 3, 4, 5]


async def test_what_does_not_fit_is_dropped_counted_and_seen_as_a_gap(tmp_path: Path) -> None:
    async with running(tmp_path, max_waiting_rows=3, wait_s=600.0) as world:
        for i in range(5):
            await world.started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
        assert world.metric("dropped_events_total", reason="full") == 2
    # What waited when the router stopped; the numbers 4 and 5 are gone, and their count is told.
    assert world.numbers == [1, 2, 3]
    assert world.receiver.events[-1].noted_count == 5


async def test_a_regulated_event_is_on_the_disk_before_the_answer_and_collected_later(tmp_path: Path) -> None:
    journal = {"folder": tmp_path / "journal", "collect_s": 600.0}
    async with running(tmp_path, REGULATED, journal=journal) as world:
        for i in range(3):
            answer = await world.started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
            assert not answer.batch.errors
            [file] = (tmp_path / "journal").iterdir()
            assert f"r{i}".encode() in file.read_bytes()
        assert world.receiver.events == []
    # Another process takes up what is there, whoever wrote it, and removes what was stored.
    async with running(tmp_path / "again", REGULATED, journal={**journal, "collect_s": 0.01}) as again:
        await until(lambda: len(again.numbers) == 3)
        await until(lambda: not list((tmp_path / "journal").iterdir()))
    assert again.numbers == [1, 2, 3]
    assert all(request.durable for request in again.receiver.events)


async def test_a_journal_that_cannot_be_written_refuses_the_regulated_alone_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.router.events.regulated.journal._AGAIN_S", 0.01)
    (tmp_path / "journal").write_text("a file stands in the way")
    given = {"journal": {"folder": tmp_path / "journal"}}
    async with suite(tmp_path / "documents", BOTH, events=given) as started:
        refused = await started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0]))
        assert {e.reason for e in refused.batch.errors.values()} == {Reason.REASON_JOURNAL_UNAVAILABLE}
        assert {e.code for e in refused.batch.errors.values()} == {Code.UNAVAILABLE}
        assert len(refused.batch.errors) == 2
        assert started.sample("router_journal") == 0
        assert not (await started.ask("free", batch_of(["ab"], [1.0]))).batch.errors
        (tmp_path / "journal").unlink()
        await started.until_answered("scored")
        assert started.sample("router_journal") == 1


async def test_without_a_journal_regulated_predictions_are_refused_before_any_work(tmp_path: Path) -> None:
    async with running(tmp_path, REGULATED) as world:
        refused = await world.started.ask("scored", batch_of(["ab"], [1.0]))
        assert refused.batch.errors[0].reason == Reason.REASON_JOURNAL_UNAVAILABLE
        assert world.started.features.calls == []


def test_frames_are_joined_into_fewer_messages() -> None:
    small = [b"x" * 1000] * 3000
    joined = collection._joined(small)
    assert b"".join(joined) == b"".join(small)
    assert len(joined) == 3


class Waiting:
    """A ring with one message, and what makes its groups."""

    def __init__(self) -> None:
        self.notes = Notes(4096, time.time)
        self.notes.number(3)
        self.rows, self.turns = 3, 0

    def take(self, rows: int) -> list[int]:
        self.rows, taken = 0, self.rows
        return [1] * taken

    def steps(self, noted: list[int]) -> Iterator[list[int] | None]:
        asyncio.get_running_loop().call_soon(setattr, self, "turns", 1)
        begun = time.perf_counter()
        while self.turns == 0 and time.perf_counter() - begun < 5:
            yield None
        yield noted


class Failing:
    """A receiver that answers with these faults first. `got`: what it was sent, each time."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = list(faults)
        self.got: list[sender.Message] = []

    async def record(self, message: sender.Message, deadline: float) -> int:
        self.got.append(message)
        if self.faults:
            raise self.faults.pop(0)
        return 1


def sender_of(ring: Waiting, receiver: Failing, registry: CollectorRegistry) -> sender.Sender:
    parts: Any = ring, ring, receiver, EventMetrics(registry), EventsSettings(), time.monotonic, Log()
    return sender.Sender(*parts)


async def test_what_a_stop_interrupts_is_sent_at_the_end() -> None:
    ring, receiver = Waiting(), Failing()
    sending = sender_of(ring, receiver, CollectorRegistry())
    making = asyncio.create_task(sending.send_next())
    while not ring.turns:
        await asyncio.sleep(0)
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    assert receiver.got == []
    await sending.close()
    assert list(map(len, receiver.got)) == [3]


@pytest.mark.parametrize(
    ("code", "reason", "again"),
    [
        (Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, True),
        (Code.RESOURCE_EXHAUSTED, Reason.REASON_OVERLOADED, True),
        (Code.DEADLINE_EXCEEDED, Reason.REASON_DEADLINE_PASSED, True),
        (Code.RESOURCE_EXHAUSTED, Reason.REASON_TOO_LARGE, False),
        (Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, False),
    ],
)
async def test_only_what_may_succeed_later_is_sent_again(code: Code, reason: Any, again: bool) -> None:
    fault = Fault(code, reason, "no")
    ring, receiver, registry = Waiting(), Failing(fault, fault), CollectorRegistry()
    sending = sender_of(ring, receiver, registry)
    for _ in range(3):
        await sending.send_next()
    assert ring.turns == 1, "the event loop stood still while events were made"
    assert receiver.got == [receiver.got[0]] * (3 if again else 1)
    lost = registry.get_sample_value("headrace_router_dropped_events_total", {"reason": "refused"})
    # What the receiver itself could not store is counted, too.
    assert lost == (1 if again else 3)
    assert registry.get_sample_value("headrace_router_events_total") == (2 if again else 0)
