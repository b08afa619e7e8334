"""The journal and recordings of a router with keys: nothing plain is on the disk; keys that are away are like a full disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from headrace.encryption import is_sealed
from headrace.hop.errors import Code, Fault, Reason
from headrace.recordings import read_records
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.collection import Collection
from services.router.events.regulated.journal_file import JournalFiles
from tests.encryption_keys import Keys
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.router.router_leaves import FREE, REGULATED, Suite, batch_of, suite

PLANTED = "planted-value"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


class Monitoring:
    """Keeps what it takes, if it is there."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.there = True

    async def record_encoded(self, content: bytes, deadline: float) -> None:
        if not self.there:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "away")
        self.taken.append(content)


class World:
    """A journal in a folder, and who collects it. `another`: a process with the same folder, which has opened nothing yet."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self._folder, self._keys = folder, keys
        self.monitoring, self.log, self.now = Monitoring(), Log(), 0.0
        self.metrics = EventMetrics(CollectorRegistry())
        self.another()

    def another(self) -> None:
        self.files = JournalFiles(self._folder, 1 << 20, 1 << 20, self._keys.sealer())
        self._collection = Collection(
            self.files, self.monitoring, self.metrics, 1.0, lambda: self.now, self.log
        )

    async def collect(self) -> list[bytes]:
        self.now += 11
        await self._collection.collect()
        taken, self.monitoring.taken = self.monitoring.taken, []
        return taken

    @property
    def locked(self) -> float:
        return float(self.metrics.locked._value.get())


@pytest.fixture
def world(tmp_path: Path, keys: Keys) -> World:
    return World(tmp_path / "journal", keys)


async def test_a_file_stays_until_its_key_is_here_and_others_are_sent(world: World, keys: Keys) -> None:
    world.files.append(7, b"first")
    world.files.rotate()
    keys.replace()
    world.another()
    world.files.append(8, b"second")
    assert await world.collect() == [b"second"]
    assert world.locked == 1
    assert await world.collect() == []
    assert world.log.events.count("a file of the journal stays where it is until its key is here") == 1
    keys.put_back()
    assert await world.collect() == [b"first"]
    assert world.locked == 0
    assert world.files.complete() == []


async def test_keys_that_are_away_stop_the_collection_until_they_are_back(world: World, keys: Keys) -> None:
    world.files.append(7, b"first")
    world.files.rotate()
    world.another()
    keys.take_away()
    assert await world.collect() == []
    assert len(world.files.complete()) == 1
    keys.put_back()
    assert await world.collect() == [b"first"]


async def test_what_precedes_a_damaged_part_is_sent_and_the_file_stays(world: World, tmp_path: Path) -> None:
    world.files.append(7, b"first")
    world.files.append(7, b"second")
    world.files.rotate()
    [path] = world.files.complete()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert await world.collect() == [b"first"]
    assert [p.suffix for p in (tmp_path / "journal").iterdir()] == [".unreadable"]


async def test_a_regulated_answer_is_sealed_before_it_leaves(tmp_path: Path, keys: Keys) -> None:
    journal, recording = tmp_path / "journal", tmp_path / "recording"
    async with router(tmp_path, keys, recording={"folder": recording, "personal_data": "store"}) as started:
        answer = await started.ask("scored", batch_of([PLANTED], [1.0]))
        assert not answer.batch.errors
        [path] = journal.iterdir()
        assert is_sealed(path.read_bytes())
    files = [*journal.iterdir(), *recording.iterdir()]
    assert len(files) == 2
    for path in files:
        assert is_sealed(path.read_bytes())
        assert PLANTED.encode() not in path.read_bytes()
    [record] = read_records(recording.iterdir(), keys.sealer())
    assert record.inputs.columns["key"].text() == [PLANTED]


async def test_without_keys_the_regulated_alone_are_refused_until_they_are_there(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.router.events.regulated.journal._AGAIN_S", 0.01)
    keys.take_away()
    async with router(tmp_path, keys) as started:
        answer = await started.ask("scored", batch_of(["ab"], [1.0]))
        assert [e.reason for e in answer.batch.errors.values()] == [Reason.REASON_JOURNAL_UNAVAILABLE]
        assert str(keys.file) not in str(answer.batch.errors)
        assert not (await started.ask("free", batch_of(["ab"], [1.0]))).batch.errors
        keys.put_back()
        await started.until_answered("scored")


@asynccontextmanager
async def router(folder: Path, keys: Keys, **settings: Any) -> AsyncIterator[Suite]:
    journal = {"journal": {"folder": folder / "journal"}}
    given = {"events": journal, "encryption": {"file": keys.file}, **settings}
    async with suite(folder / "documents", {"scored": REGULATED, "free": FREE}, **given) as started:
        yield started
