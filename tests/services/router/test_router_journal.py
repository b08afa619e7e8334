"""The journal: what is written is brought to monitoring, once removed; damage and refusals stop nothing else."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace.api.monitoring.v1.events_pb2 import EventGroup, EventReport
from headrace.hop.errors import Code, Fault, Reason
from services.router.events.metrics import EventMetrics
from services.router.events.regulated.collection import Collection
from services.router.events.regulated.journal import Journal
from services.router.facts.clients import EventMessages
from tests.children import ends_with_tests
from tests.disks import fill, tiny_disk
from tests.services.monitoring.monitoring_outcomes import Log


class Monitoring:
    """Takes messages; refuses those of `unwanted` for ever, all while it is `away`; answers none while it `hangs`."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.unwanted, self.away, self.hangs = "", False, False

    async def commit(self, events: EventReport, deadline: float) -> None:
        await asyncio.sleep(3600 if self.hangs else 0)
        if self.away:
            raise Fault(Code.UNAVAILABLE, Reason.REASON_UNREACHABLE, "away")
        names = [f"{events.epoch} {group.pipeline}" for group in events.groups]
        if self.unwanted in names:
            raise Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, "no")
        self.taken += names


class World:
    """A journal in a folder, and who collects it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"
        self.monitoring, self.metrics = Monitoring(), EventMetrics(CollectorRegistry())
        self.journal = Journal(folder, 1 << 20)
        self.collection = Collection(
            self.journal, EventMessages(""), self.monitoring, self.metrics, 1.0, time.monotonic, Log()
        )

    async def collect(self) -> list[str]:
        await self.collection.collect()
        taken, self.monitoring.taken = self.monitoring.taken, []
        return taken

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Another process on the same file."""
        with closing(sqlite3.connect(self.path)) as db, db:
            return db.execute(sql).fetchall()


def named(name: str, size: int = 0, epoch: int = 7) -> bytes:
    groups = [EventGroup(pipeline=name, revision="x" * size)]
    return EventReport(epoch=epoch, groups=groups).SerializeToString()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "journal")


async def test_what_is_written_is_brought_in_order_and_removed(world: World) -> None:
    names = [f"{7 + i // 5} n{i}" for i in range(9)]
    for i, name in enumerate(names):
        epoch, _, pipeline = name.partition(" ")
        world.journal.append(int(epoch), named(pipeline, 300_000 if i == 2 else 10, int(epoch)))
    world.monitoring.away = True
    with pytest.raises(Fault):
        await world.collect()
    await world.collection.close()
    world.monitoring.hangs = True
    await world.collection.close()
    world.monitoring.hangs = False
    assert world.metrics.uncollected._value.get() > 300_000
    world.journal.close()
    assert world.path.stat().st_size > 300_000
    world.monitoring.away = False
    assert await world.collect() == names
    assert (await world.collect(), world.journal.size_bytes()) == ([], 0)
    assert (world.metrics.uncollected._value.get(), world.metrics.works._value.get()) == (0, 1)
    world.journal.close()
    assert (world.path.stat().st_mode & 0o777, world.path.stat().st_size < 100_000) == (0o600, True)


@pytest.mark.parametrize("cause", ["damaged", "unreadable", "refused"])
async def test_a_message_that_cannot_be_taken_is_set_aside_and_the_others_are_brought(
    world: World, cause: str
) -> None:
    for name in ("first", "second", "third"):
        world.journal.append(7, b"\xff" if cause == "unreadable" and name == "second" else named(name))
    if cause == "damaged":
        world.ask("UPDATE waiting SET content = CAST('x' || content AS BLOB) WHERE id = 2")
    world.monitoring.unwanted = "7 second"
    assert await world.collect() == ["7 first", "7 third"]
    why = {"damaged": "its checksum is wrong", "unreadable": "a frame holds no events", "refused": "no"}[
        cause
    ]
    assert world.ask("SELECT id, why FROM refused") == [(2, why)]
    assert world.journal.size_bytes() == 0


async def test_a_killed_process_leaves_all_that_was_written_and_others_go_on_beside_it(world: World) -> None:
    program = (
        "import sys, pathlib; from services.router.events.regulated.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]), 1 << 20)\n"
        "journal.append(7, bytes.fromhex(sys.argv[2]))\nprint('written', flush=True)\nsys.stdin.read()"
    )
    command = ends_with_tests(sys.executable, "-c", program, str(world.path.parent), named("killed").hex())
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        world.journal.append(8, named("own"))
        process.send_signal(signal.SIGKILL)
    assert await world.collect() == ["7 killed", "7 own"]


async def test_who_removes_what_another_has_removed_removes_nothing_else(world: World) -> None:
    world.journal.append(7, named("first"))
    rows = world.journal.oldest(1)
    world.journal.settle(rows)
    world.journal.append(7, named("next"))
    world.journal.settle(rows)
    assert await world.collect() == ["7 next"]


async def test_a_full_journal_a_full_disk_and_a_file_that_is_gone_are_said_and_heal(tmp_path: Path) -> None:
    with tiny_disk(tmp_path) as disk:
        world = World(disk / "journal")
        world.journal.append(7, named("first"))
        with pytest.raises(OSError, match="the journal is full"):
            world.journal.append(7, bytes(1 << 20))
        filler = fill(disk, "filler")
        with pytest.raises(OSError, match="SQLite: "):
            world.journal.append(7, os.urandom(1 << 19))
        filler.unlink()
        world.journal.append(7, named("last"))
        assert await world.collect() == ["7 first", "7 last"]
        # It is not written to what nobody would find.
        world.path.parent.rename(disk / "moved")
        world.path.parent.write_text("a file stands in the way")
        assert not world.journal.writable()
        with pytest.raises(OSError, match="exists"):
            world.journal.append(7, named("lost"))
        world.path.parent.unlink()
        world.journal.append(7, named("again"))
        assert (await world.collect(), world.journal.writable()) == (["7 again"], True)
        world.journal.close()
