"""Events over sockets: what the router answered is what the monitoring service stored, and neither waits for the other."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from headrace.hop.config import ConfigError
from headrace.hop.errors import Code, Fault, Reason
from services.router.events.regulated import commits
from tests.services.router.router_leaves import FREE, REGULATED, SCORED, Suite, batch_of, suite
from tests.services.router.router_monitoring import Monitoring, monitored
from tests.services.waiting import until

PRIVATE = SCORED.replace("key: {type: string}", "key: {type: string, pii: true}")
BOTH = {"scored": REGULATED, "free": FREE}
SLOW = {"wait_s": 0.02}
AWAY = Fault(Code.UNAVAILABLE, Reason.REASON_STORAGE_UNAVAILABLE, "full")


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


async def request(world: World, count: int, start: int = 0) -> None:
    """Asks one after the other; each is answered."""
    for i in range(start, start + count):
        answer = await world.started.ask("scored", batch_of(["ab"], [1.0], request_id=f"r{i}"))
        assert not answer.batch.errors


async def test_what_does_not_fit_is_dropped_counted_and_seen_as_a_gap(tmp_path: Path) -> None:
    # A row takes about 400 bytes.
    async with running(tmp_path, max_waiting_bytes=1300, wait_s=600.0) as world:
        await request(world, 5)
        assert world.metric("dropped_events_total", reason="full") == 2
    # What waited when the router stopped; the numbers 4 and 5 are gone, and their count is told.
    assert world.numbers == [1, 2, 3]
    assert world.receiver.events[-1].events.noted_count == 5


async def test_a_regulated_event_is_with_monitoring_before_the_answer(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    async with running(tmp_path, REGULATED, journal={"folder": folder}) as world:
        for i in range(3):
            await request(world, 1, i)
            assert world.numbers == [*range(1, i + 2)]
        assert all(report.durable for report in world.receiver.events)
        assert not waiting(folder)


def waiting(folder: Path) -> list[bytes]:
    """What is in the journal, as another process sees it."""
    if not (folder / "journal.sqlite").exists():
        return []
    with closing(sqlite3.connect(folder / "journal.sqlite")) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'waiting'").fetchone():
            return []  # it is being made
        return [content for (content,) in db.execute("SELECT content FROM waiting ORDER BY id")]


@pytest.mark.parametrize("fails", ["refuses", "hangs", "takes and does not say so"])
async def test_without_monitoring_the_journal_has_it_and_monitoring_gets_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setattr(commits, "_CALL_S", 0.05)
    folder = tmp_path / "journal"
    journal = {"folder": folder, "collect_s": 600.0}
    async with running(tmp_path, REGULATED, journal=journal) as world:
        world.receiver.hangs = fails == "hangs"
        world.receiver.away = None if world.receiver.hangs else AWAY
        world.receiver.takes_what_it_refuses = fails == "takes and does not say so"
        for i in range(3):
            await request(world, 1, i)
            assert f"r{i}".encode() in waiting(folder)[i]
        assert world.metric("journaled_events_total") == 3
        epochs = {r.events.epoch for r in world.receiver.events}
    # Another process takes up what is there, whoever wrote it, and removes what was stored.
    async with running(tmp_path / "again", REGULATED, journal={**journal, "collect_s": 0.01}) as again:
        await until(lambda: len(again.numbers) == 3)
        await until(lambda: not waiting(folder))
    assert again.numbers == [1, 2, 3]
    # By its number in the same stream monitoring knows what it has already.
    assert epochs <= {r.events.epoch for r in again.receiver.events}
    assert bool(epochs) == (fails == "takes and does not say so")


async def test_regulated_events_go_to_monitoring_again_when_it_is_back_and_a_stop_brings_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_AWAY_S", 0.0)
    async with running(tmp_path, REGULATED, journal={"folder": tmp_path / "j", "collect_s": 600.0}) as world:
        world.receiver.away = AWAY
        await request(world, 2)
        world.receiver.away = None
        await request(world, 2, 2)
        assert world.numbers == [3, 4]
    assert sorted(world.numbers) == [1, 2, 3, 4]


async def test_batches_that_wait_while_one_is_committed_leave_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_CALL_S", 60.0)
    async with running(tmp_path, REGULATED) as world:
        world.receiver.hangs = True
        first = asyncio.create_task(request(world, 1))
        await until(lambda: world.receiver.hanging)
        others = [asyncio.create_task(request(world, 1, i)) for i in range(1, 9)]
        await until(lambda: sum(world.started.executor.calls) == 9)
        world.receiver.hangs = False
        await asyncio.gather(first, *others)
    assert sorted(world.numbers) == [*range(1, 10)]
    assert len(world.receiver.events) < 5


NOWHERE = Reason.REASON_JOURNAL_UNAVAILABLE


@pytest.mark.parametrize("policy", ["spool", "refuse"])
async def test_what_nothing_can_record_is_refused_alone_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setattr(commits, "_AGAIN_S", 0.01)
    if policy == "spool":
        (tmp_path / "journal").write_text("a file stands in the way")
    settings = {"journal": {"folder": tmp_path / "journal", "collect_s": 0.01}, "when_unrecorded": policy}
    leaf = Monitoring(away=AWAY)
    async with monitored(tmp_path / "documents", BOTH, leaf, events={**SLOW, **settings}) as (started, _):
        refused = await started.ask("scored", batch_of(["ab", "c"], [1.0, 2.0]))
        assert {(e.code, e.reason) for e in refused.batch.errors.values()} == {(Code.UNAVAILABLE, NOWHERE)}
        assert len(refused.batch.errors) == 2
        await until(lambda: started.sample("router_journal") == (policy == "refuse"))
        assert not (await started.ask("free", batch_of(["ab"], [1.0]))).batch.errors
        if policy == "spool":
            (tmp_path / "journal").unlink()
        else:
            assert not waiting(tmp_path / "journal")
            leaf.away = None
        await started.until_answered("scored")
        await until(lambda: started.sample("router_journal") == 1)


async def test_while_nothing_can_record_them_regulated_predictions_are_not_computed(tmp_path: Path) -> None:
    async with monitored(tmp_path, BOTH, Monitoring(away=AWAY)) as (started, _):
        for _ in range(3):
            refused = await started.ask("scored", batch_of(["ab"], [1.0]))
            assert refused.batch.errors[0].reason == NOWHERE
        assert started.features.calls == [1]
    # With neither monitoring nor a journal there is nothing to try.
    async with suite(tmp_path / "alone", BOTH) as started:
        refused = await started.ask("scored", batch_of(["ab"], [1.0]))
        assert (refused.batch.errors[0].reason, started.features.calls) == (NOWHERE, [])


async def test_a_journal_of_the_version_before_is_left_to_that_version(tmp_path: Path) -> None:
    (tmp_path / "0123-ab.journal").touch()
    with pytest.raises(ConfigError, match=r"0123-ab\.journal is of the version before"):
        async with running(tmp_path, REGULATED, journal={"folder": tmp_path}):
            pass
