"""Control and those who follow it, by seed: real records, feeds, followers and disks, on a clock and a network of the test.

Changes, kills, freezes, partitions and restores come in any order. At no time may a process serve what does not descend from what
it had (but for an epoch that people began), serve anything else than what a position says, be ready with nothing, or lose what
its disk had. Soon after the last trouble, and `recover` where it is needed, all serve the newest position.
"""

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.catalog.access import Change, Position, Write
from headrace.catalog.records import CatalogRecords
from headrace.hop.call import LOCAL_PEER
from headrace.hop.errors import Fault
from headrace.repository.storage.local_folder import Folder
from headrace.resources import bootstrap
from headrace.resources.artifacts import ArtifactWriter
from headrace.resources.follower import Follower
from headrace.resources.manifest import Signer, VerifiedPart, new_keys
from headrace.resources.snapshot import PARTS
from headrace.storage.database import Database
from services.control.head import Head, seen_of
from services.control.identity import Identities
from services.control.metrics import Metrics
from services.control.resources.feed import Feed
from services.control.resources.followers import Followers
from services.control.resources.publication import Publication
from services.control.resources.servicer import ResourcesServicer
from tests.simulation.virtual_time import VirtualLoop

PRIVATE, PUBLIC = new_keys()
SIGNER = Signer(PRIVATE)
PROCESSES, CONTROLS, STEPS = 3, 2, 24
SERVICE, KIND = "ingress", "tenant"
# Rounds within which all serve the newest position once nothing is in the way: each waits for others and their proofs.
SOON = 14
CALL: Any = SimpleNamespace(peer=LOCAL_PEER, deadline=float("inf"))


class Inline(ThreadPoolExecutor):
    """Works at once, on the thread that asks."""

    def submit(self, function: Callable[..., Any], /, *given: Any, **named: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(function(*given, **named))
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            future.set_exception(error)
        return future


class Stepped(Follower):
    """Makes a round when it is told to."""

    def start(self, part: VerifiedPart | None = None, problems: Any = ()) -> None:
        if part is not None:
            self._use(part)
        if self._artifacts is not None:
            try:
                stored = self._artifacts()
            except OSError:
                stored = None
            if stored is not None and self._state.offer(stored):
                self._use(stored)
        self.first.set()


class Control:
    """One process of control over the world's database; `frozen`: it answers nobody and reads nothing."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.frozen = False
        self.followers = Followers(world.clock, first_s=3.0)
        self._head = Head(lambda: world.records, lambda _: None)
        self._feed = Feed(lambda: world.records, Inline(), SIGNER.sign, lambda: datetime.now(UTC))
        metrics, log = Metrics(CollectorRegistry()), structlog.wrap_logger(structlog.ReturnLogger())
        self._publication = Publication(
            self._head, self._feed, self.followers, metrics, log, lambda: world.records, Inline()
        )
        self._settled = asyncio.Event()
        identities = Identities((), {}, {SERVICE: PARTS})
        self._servicer = ResourcesServicer(
            self._head, self._feed, self.followers, identities, self._settled, world.passing
        )

    def follow(self) -> None:
        """Looks at the database."""
        self._head.seen = seen_of(self._world.records, self._world.records.position(), self._head.seen)
        self._world.run(self._feed.read())
        self._publication.report()

    def settle(self) -> None:
        self._settled.set()

    def refusal(self) -> str:
        return "" if self._settled.is_set() and not self.frozen else "not now"

    def watch(self, request: WatchRequest) -> WatchResponse:
        try:
            response: WatchResponse = self._world.run(self._servicer.Watch(request, CALL))
        except Fault as fault:
            raise OSError(str(fault)) from None
        return response

    def store(self, writer: ArtifactWriter) -> None:
        """Writes what it has, unless what is there is something else."""
        if (newest := self._feed.newest) is not None:
            signed = self._feed.signed(newest, SERVICE, None)
            writer.write(VerifiedPart.of(signed, newest.parts[SERVICE].snapshot))


class Process:
    """One process of the data plane. `reaches`: whether it reaches control."""

    def __init__(self, world: "World", number: int) -> None:
        self._world, self._number = world, number
        self.reaches = True
        self._turn = 0
        self.follower = self._started()

    @property
    def position(self) -> Position | None:
        return self.follower.view.position if self.follower.view else None

    def step(self) -> None:
        before = self.position
        self.follower._round()
        self._world.check(before, self.follower)

    def restart(self, *, new_machine: bool = False) -> None:
        """kill -9, and the process after it. `new_machine`: its disk is gone."""
        before = self.position
        self.follower._disk.close()  # as the kernel does
        if new_machine:
            shutil.rmtree(self._folder)
        self.follower = self._started()
        if not new_machine and before is not None and self.follower.view is None:
            self._world.wrong.append("what was on the disk is not used")
        self._world.check(None if new_machine else before, self.follower)

    # What a follower asks of control.
    def watch(self, request: WatchRequest, timeout_s: float) -> WatchResponse:
        control = self._world.controls[self._turn % CONTROLS]
        if not self.reaches or control is None or control.frozen:
            raise OSError("nobody answers")
        request.wait_ms = 300
        return control.watch(request)

    def turn(self) -> None:
        self._turn += 1

    def close(self) -> None:
        pass

    @property
    def _folder(self) -> Path:
        return self._world.folder / f"process-{self._number}"

    def _started(self) -> Stepped:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bootstrap, "Follower", Stepped)
            found = bootstrap.follow(
                SERVICE,
                f"process-{self._number}",
                [PUBLIC],
                self,
                self._folder,
                self._world.store,
                clock=self._world.clock,
                data=(KIND,) if self._number == 0 else (),
            )
        assert isinstance(found, Stepped)
        return found


class World:
    """`wrong`: what was seen that must not be."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.folder = folder
        self.draw = random.Random(seed)
        # Before all that is waited for by the machine's own clock, so nothing waits.
        self.now = -1e9
        self.wrong: list[str] = []
        self._loop = VirtualLoop()
        self.store = Folder(folder / "store") if self.draw.random() < 0.5 else None
        self._writer = ArtifactWriter(self.store, self.clock) if self.store else None
        # Position → the one before, and what it says. An epoch that people began has none before.
        self._before: dict[Position, Position | None] = {}
        self._says: dict[Position, dict[str, bytes]] = {}
        empty, database = databases()
        self._path = empty.with_name("control.sqlite")
        self.records = CatalogRecords(database)
        self._closed_while(partial(shutil.copyfile, empty, self._path))
        self._note(None, {})
        self._backups: list[tuple[Position, Path]] = []
        self.controls: list[Control | None] = [Control(self) for _ in range(CONTROLS)]
        for control in self._up():
            control.follow()
            control.settle()
        self.processes = [Process(self, number) for number in range(PROCESSES)]

    def clock(self) -> float:
        return self.now

    def passing(self) -> float:
        """The clock of those who wait."""
        self.now += 0.1
        return self.now

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def play(self) -> None:
        troubles = (self._change, self._change, self._control, self._process, self._backup, self._restore)
        for _ in range(STEPS):
            self.now += self.draw.choice((0.05, 0.3, 1.0, 5.0))
            self.draw.choice(troubles)()
            for process in self.draw.sample(self.processes, 2):
                process.step()
        self._well_again()

    def close(self) -> None:
        for process in self.processes:
            process.follower._disk.close()
        self._loop.close()

    def check(self, before: Position | None, follower: Follower) -> None:
        view = follower.view
        if view is None:
            return
        says = {r.name: r.content for r in view.snapshot.resources.values()}
        if says != self._says.get(view.position) and not view.rejected:
            self.wrong.append(f"{view.position.number} serves what no position says")
        at: Position | None = view.position
        while before is not None and at != before:
            if at is None:
                if view.position.epoch <= before.epoch:
                    self.wrong.append(f"{before.number} → {view.position.number} is no descendant")
                return
            at = self._before[at]

    def _up(self) -> list[Control]:
        return [c for c in self.controls if c is not None and not c.frozen]

    def _change(self) -> None:
        """Somebody changes a record, at a control that may have seen less than the other."""
        up = self._up()
        if not up:
            return
        control = self.draw.choice(up)
        if not control.refusal() and not control.followers.refusal():
            name, content = f"t{self.draw.randrange(4)}", str(self.draw.random()).encode()
            gone = self.draw.random() < 0.2
            self._made(Write(KIND, name, None if gone else content))
        for other in up:
            if other is control or self.draw.random() < 0.7:
                other.follow()
        if self._writer and not control.followers.refusal() and self.draw.random() < 0.5:
            control.store(self._writer)

    def _control(self) -> None:
        """One is killed, started, frozen, goes on, or ends its wait after a start."""
        number = self.draw.randrange(CONTROLS)
        control = self.controls[number]
        if control is None:
            self.controls[number] = control = Control(self)
            control.follow()
        elif control.refusal() and not control.frozen and self.draw.random() < 0.7:
            control.settle()
        elif self.draw.random() < 0.4:
            self.controls[number] = None
        else:
            control.frozen = not control.frozen

    def _process(self) -> None:
        process = self.draw.choice(self.processes)
        what = self.draw.random()
        if what < 0.5:
            process.reaches = not process.reaches
        else:
            process.restart(new_machine=what > 0.85)

    def _backup(self) -> None:
        target = self.folder / f"backup-{len(self._backups)}"
        self._backups.append((self.records.position(), target))
        self._closed_while(partial(shutil.copyfile, self._path, target))

    def _restore(self) -> None:
        """Yesterday's database is put in the place of today's, or an empty one."""
        if self.draw.random() < 0.5 or not self._backups:
            return
        _, backup = self.draw.choice(self._backups)
        self.controls = [None] * CONTROLS
        self._closed_while(partial(shutil.copyfile, backup, self._path))

    def _closed_while(self, work: Callable[[], object]) -> None:
        """As after a restart of control: without its connections SQLite puts all it has into the one file."""
        database = self.records.database
        database._engine.pool.dispose()
        work()
        self.records = CatalogRecords(database)

    def _made(self, *writes: Write) -> None:
        before = self.records.position()
        self.records.change(Change("me", "tenant.set", "t", writes))
        self._note(before, {w.name: w.content for w in writes})

    def _note(self, before: Position | None, written: dict[str, bytes | None]) -> None:
        at = self.records.position()
        says = {**self._says.get(before, {}), **written} if before else written
        self._before[at] = before
        self._says[at] = {name: content for name, content in says.items() if content is not None}

    def _well_again(self) -> None:
        """All that is broken is mended, and whoever runs this decides what is right."""
        for number in range(CONTROLS):
            self.controls[number] = self.controls[number] or Control(self)
        for control in self._up():
            control.follow()
        for control in filter(None, self.controls):
            control.frozen = False
            control.follow()
            control.settle()
        for process in self.processes:
            process.reaches = True
        self._rounds(4)
        if any(control.followers.refusal() for control in self._up()):
            says = self._says[self.records.position()]
            epoch = max(control.followers.newest_epoch() for control in self._up())
            self.records.begin_epoch(Change("me", "records.recover", "records"), epoch)
            at = self.records.position()
            self._before[at], self._says[at] = None, says
        else:
            self._made(Write(KIND, "last", b"change"))
        for control in self._up():
            control.follow()
        newest = self.records.position()
        self._rounds(SOON, newest)
        for process in self.processes:
            if process.position != newest:
                status = process.follower.status()
                self.wrong.append(f"it stays at {process.position} and not {newest}: {status}")

    def _rounds(self, count: int, until: Position | None = None) -> None:
        for _ in range(count):
            self.now += 1.0
            for process in self.processes:
                process.step()
            if until is not None and {p.position for p in self.processes} == {until}:
                return


@cache
def databases() -> tuple[Path, Database]:
    """A file with nothing in it, and a database beside it that all cases of this process use: SQLAlchemy knows its statements."""
    empty = Path(tempfile.mkdtemp(prefix="simulated-", dir="/dev/shm")) / "empty.sqlite"
    CatalogRecords.open(str(empty), initialise=True).close()
    used = empty.with_name("control.sqlite")
    shutil.copyfile(empty, used)
    return empty, Database.open(str(used))


def failures(seed: int) -> list[str]:
    """What is wrong in the case."""
    with tempfile.TemporaryDirectory(prefix="simulated-", dir="/dev/shm") as folder:
        world = World(seed, Path(folder))
        try:
            world.play()
        finally:
            world.close()
        return world.wrong
