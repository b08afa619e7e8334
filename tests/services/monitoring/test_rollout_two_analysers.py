"""Two analysers of one rollout with a real Redis: one decides, the other takes over, and nothing is decided twice."""

import asyncio
import pickle
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.releases import ReleaseStore, Rollout, RolloutState
from headrace.releases.document import LIVE, Release
from headrace.releases.redis import RedisReleases
from headrace.state import atomic
from services.monitoring.rollouts.analyser import Analyser
from tests.children import ends_with_tests
from tests.libs.releases.release_stores import Place, in_redis
from tests.redis_server import RedisServer
from tests.services.monitoring.analyser_process import analyser_in_redis
from tests.services.monitoring.rollout_analyser import Observed, World
from tests.services.monitoring.rollout_simulation import CANARY, Traffic, release_of
from tests.stopped import stop

LADDER = Rollout(arm=CANARY, ladder=(0.05, 0.5, 1.0), stage_s=5)
# No test waits so long unless it fails.
LONG_S, LONG_MS = 120.0, 120_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path_factory.mktemp("redis"))
    found.start()
    yield found
    found.signal(signal.SIGCONT)
    found.kill()


class RedisWorld(World):
    """Several analysers, each with connections of its own."""

    def __init__(self, folder: Path, server: RedisServer, traffic: Traffic | None = None) -> None:
        super().__init__(folder, traffic)
        self.prefix = secrets.token_hex(4)
        self.place: Place = in_redis(server.port, self.prefix)
        self.reader: ReleaseStore = self.place.open()
        self.store = self.reader  # type: ignore[assignment]  # what World does with files works with any store
        self.deploy(release_of(LADDER))

    @property
    def release(self) -> Release:
        found, _ = self.reader.current("p")
        assert found is not None
        return found

    def another(self, observed: Observed, lease_ms: int = LONG_MS) -> tuple[Analyser, RedisReleases]:
        store = self.place.open()
        assert isinstance(store, RedisReleases)
        made, _ = analyser_in_redis(store, self, lambda: self.now, observed, self.threads, lease_ms)
        return made, store

    def close(self) -> None:
        self.place.close()
        self.threads.shutdown()


@pytest.fixture
def world(tmp_path: Path, server: RedisServer) -> Iterator[RedisWorld]:
    found = RedisWorld(tmp_path, server)
    yield found
    found.close()


def end_lease(server: RedisServer, world: RedisWorld) -> None:
    """As if it had run out."""
    assert server.command("DEL", f"{world.prefix}:{{releases}}:rollouts:lease") == ":1\r\n"


async def test_what_a_stopped_analyser_writes_after_its_lease_is_refused(
    server: RedisServer, world: RedisWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped between its decision and the write, while the next one has the lease and has changed nothing yet, so that
    the number of its release is still right."""
    one_saw, other_saw = Observed(), Observed()
    one, store = world.another(one_saw)
    other, _ = world.another(other_saw)
    await world.look(one, 1)
    begun = world.release
    assert begun.rollout.since == 8
    commit, reached, go_on = store.commit, threading.Event(), threading.Event()

    def stopped(release: Release) -> None:
        reached.set()
        assert go_on.wait(LONG_S)
        commit(release)

    monkeypatch.setattr(store, "commit", stopped)
    looking = asyncio.create_task(world.look(one, 60))
    try:
        assert await asyncio.to_thread(reached.wait, LONG_S)
        end_lease(server, world)
        assert other._lease.hold()
    finally:
        go_on.set()
    await looking
    # Refused, and then it stands by: the lease is the other's.
    assert world.release.number == begun.number
    assert (one_saw.failures, one_saw.leads, len(one_saw.changes)) == (["lease"], False, 1)
    assert "ended before the change was made" in one.status("p").problem
    await world.look(other, 120)
    assert world.release.rollout.state == RolloutState.PROMOTED
    assert len(one_saw.changes) + len(other_saw.changes) == 4


async def test_evidence_of_an_ended_lease_is_not_saved(server: RedisServer, world: RedisWorld) -> None:
    observed = Observed()
    one, _ = world.another(observed)
    other, _ = world.another(Observed())
    await world.look(one, 3)
    end_lease(server, world)
    await world.look(other, 3)
    key = f"{world.prefix}:{{releases}}:rollouts:evidence:p"
    newer = server.command("GET", key)
    evidence = one._evidence["p"]
    await one._save("p", evidence, world.now)
    assert server.command("GET", key) == newer
    assert observed.failures == ["evidence"]


async def test_a_lease_that_returned_has_no_old_evidence(server: RedisServer, world: RedisWorld) -> None:
    """It lost the lease and nobody has it now: what it knew may be older than what another saved meanwhile."""
    observed = Observed()
    one, _ = world.another(observed)
    await world.look(one, 3)
    end_lease(server, world)
    await world.look(one, 1)
    assert (observed.leads, one._evidence) == (False, {})
    await world.look(one, 1)
    assert observed.leads


async def test_while_redis_hangs_nothing_is_decided_and_the_loop_runs(
    tmp_path: Path, server: RedisServer
) -> None:
    world = RedisWorld(tmp_path, server, Traffic(canary_errors=0.5))
    observed = Observed()
    analyser, _ = world.another(observed)
    await world.look(analyser, 1)
    world.pass_time(10)
    server.signal(signal.SIGSTOP)
    try:
        hanging = asyncio.create_task(analyser.round())
        turns = 0
        while not hanging.done():
            turns += 1
            await asyncio.sleep(0)
    finally:
        server.signal(signal.SIGCONT)
    assert turns > 100
    assert (observed.leads, observed.failures) == (False, ["lease"])
    assert "the lease can't be reached: Redis" in analyser.problem
    await world.look(analyser, 5)
    assert world.release.rollout.state == RolloutState.ROLLED_BACK
    assert world.release.assign.weights == {LIVE: 1.0, CANARY: 0.0}
    world.close()


class Child:
    """An analyser in a process of its own."""

    def __init__(
        self, folder: Path, server: RedisServer, world: RedisWorld, ticks: Path, lease_ms: int
    ) -> None:
        self._said = folder / f"{secrets.token_hex(4)}.log"
        command = [sys.executable, "-m", "tests.services.monitoring.analyser_process"]
        arguments = [str(server.port), world.prefix, str(ticks), str(lease_ms)]
        with self._said.open("wb") as file:
            self.process = subprocess.Popen(ends_with_tests(*command, *arguments), stdout=file)

    @property
    def lines(self) -> list[str]:
        return self._said.read_text().splitlines()

    @property
    def leads(self) -> bool:
        return [line for line in self.lines if line in ("leads", "stands by")][-1:] == ["leads"]

    @property
    def changes(self) -> list[str]:
        return [line.removeprefix("changed ") for line in self.lines if line.startswith("changed ")]


def test_of_two_processes_one_decides_and_the_other_takes_over(
    tmp_path: Path, server: RedisServer, world: RedisWorld
) -> None:
    """The leader is stopped, then goes on as the second; then its successor is killed."""
    ticks = tmp_path / "ticks"

    def until(condition: Callable[[], bool]) -> None:
        """The routers count on meanwhile, forty seconds in one."""
        end = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < end, [child.lines for child in children]
            world.pass_second()
            atomic.write(ticks, pickle.dumps((world.now, world.newest)))
            time.sleep(0.025)

    atomic.write(ticks, pickle.dumps((world.now, ())))
    children = [Child(tmp_path, server, world, ticks, 500) for _ in range(2)]
    try:
        until(lambda: world.release.rollout.since > 0 and any(child.leads for child in children))
        first, second = sorted(children, key=lambda child: not child.leads)
        stop(first.process.pid)
        until(lambda: second.leads)
        until(lambda: bool(second.changes))
        first.process.send_signal(signal.SIGCONT)
        until(lambda: "stands by" in first.lines[1:])
        second.process.kill()
        until(lambda: world.release.rollout.state == RolloutState.PROMOTED)
    finally:
        for child in children:
            child.process.kill()
            child.process.wait()
    # START, two steps, a promotion: each once, by one of both.
    assert [r.number for r in world.reader.history("p")[:4]] == [11, 10, 9, 8]
    weights = [r.assign.weights.get(CANARY, 0.0) for r in reversed(world.reader.history("p")[1:4])]
    assert weights == [0.05, 0.5, 1.0]
    # A line may be missing: of who was stopped or killed after a change, before it said so.
    assert Counter(first.changes + second.changes) <= Counter(["start", "step up", "step up", "promote"])
    assert first.changes
    assert second.changes
