"""The loop over a real store: it acts, gives way, waits, and hands over."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from headrace.releases import Rollout, RolloutState
from headrace.releases.document import Release
from headrace.releases.ladder import Action
from services.monitoring.rollouts.analyser import Analyser
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.handover import ControlLease
from tests.released import database, keep_document, spoil
from tests.services.monitoring.rollout_analyser import Observed, World
from tests.services.monitoring.rollout_simulation import CANARY, Traffic, errors_of, release_of

QUICK = Rollout(arm=CANARY, ladder=(0.05, 0.5, 1.0), stage_s=5)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    found.deploy(release_of(QUICK))
    yield found
    found.close()


@pytest.fixture
def observed() -> Observed:
    return Observed()


async def until_begun(world: World, analyser: Analyser) -> None:
    await world.look(analyser, 1)
    assert world.release.rollout.since == 8


async def test_a_good_canary_becomes_the_live_arm(world: World, observed: Observed) -> None:
    candidate = world.release.arms[CANARY]
    analyser = world.analyser(observed)
    await world.look(analyser, 120)
    assert world.release.rollout.state == RolloutState.PROMOTED
    assert world.release.live == candidate
    assert [c.action for c in observed.changes] == [Action.STEP, Action.STEP, Action.PROMOTE]
    assert [r.author for r in world.store.history("p")][:4] == ["ladder"] * 4
    assert observed.failures == []
    assert observed.gone_pipelines == ["p"]
    assert "proven fine" in analyser.status("p").answer.reason
    assert "errors: canary" in world.release.rollout.verdict


async def test_without_the_store_it_stays_and_says_so_once(world: World, observed: Observed) -> None:
    analyser = world.analyser(observed)
    await until_begun(world, analyser)
    world.router.traffic.canary_errors = 0.5
    world.store.fault = OSError("no route to host")
    await world.look(analyser, 5)
    assert world.release.number == 8
    assert "can't be reached: no route to host" in analyser.problem
    assert "can't be reached: no route to host" in analyser.status("p").problem
    assert len(observed.of("no rollout is judged")) == 1
    assert observed.failures == ["store"] * 5
    world.store.fault = None
    await world.look(analyser, 1)
    assert analyser.problem == analyser.status("p").problem == ""
    assert world.release.rollout.state == RolloutState.ROLLED_BACK


async def test_a_bug_stops_neither_the_loop_nor_the_other_pipelines(world: World, observed: Observed) -> None:
    analyser = world.analyser(observed)
    await until_begun(world, analyser)
    good = world.ticks

    async def ticks(release: Release) -> Sequence[Tick]:
        if release.pipeline == "a-bad-one":
            raise RuntimeError("bug")
        return await good(release)

    world.ticks = ticks  # type: ignore[method-assign]  # fails for one pipeline
    bad = release_of(QUICK.model_copy(update={"since": 1})).model_copy(
        update={"pipeline": "a-bad-one", "number": 1, "parent": 0}
    )
    for arm in bad.arms.values():
        keep_document(world.store, "a-bad-one", arm.revision, "text")
    world.store.commit(bad)
    await world.look(analyser, 60)
    assert "bug" in analyser.status("a-bad-one").problem
    assert world.release.rollout.state == RolloutState.PROMOTED
    assert len(observed.of("a rollout is not judged")) == 1


async def test_who_is_cancelled_while_it_takes_the_lease_gives_it_back(
    world: World, observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyser = world.analyser(observed)
    hold, taking, go_on = analyser._lease.hold, threading.Event(), threading.Event()

    def slowly() -> bool:
        taking.set()
        go_on.wait(60)
        return hold()

    monkeypatch.setattr(analyser._lease, "hold", slowly)
    running = asyncio.create_task(analyser.run())
    assert await asyncio.to_thread(taking.wait, 60)
    running.cancel()
    for _ in range(20):  # giving the lease back takes one such call: it is not done before the lease is taken
        await asyncio.get_running_loop().run_in_executor(world.threads, lambda: None)
    assert not running.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ControlLease(world.records, "other").hold()


async def test_another_analyser_has_the_counts_of_each_weight(world: World, observed: Observed) -> None:
    first = world.analyser(observed)
    while world.release.rollout.step == 0:
        await world.look(first, 1)
    await world.look(first, 3)
    first._lease.release()  # as if the process were killed
    second = world.analyser(Observed())
    await second.round()
    before, after = (errors_of(analyser._evidence["p"]) for analyser in (first, second))
    assert (after.live, after.canary, after.excess) == (before.live, before.canary, before.excess)
    await world.look(second, 90)
    assert world.release.rollout.state == RolloutState.PROMOTED


@pytest.mark.parametrize("errors", [0.0, 0.5])
async def test_an_unreadable_newer_release_stops_steps_and_no_rollback(
    tmp_path: Path, observed: Observed, errors: float
) -> None:
    with closing(World(tmp_path, Traffic(canary_errors=errors))) as world:
        world.deploy(release_of(QUICK))
        analyser = world.analyser(observed)
        await until_begun(world, analyser)
        before = world.release
        world.store.commit(before.next("person", "by hand"))
        spoil(database(world.folder), "p", before.number + 1, b"{")
        await world.look(analyser, 3 if errors else 60)
        if errors:
            assert world.release.number == before.number + 2
            assert world.release.rollout.state == RolloutState.ROLLED_BACK
        else:
            assert world.release == before
            assert "newest release can't be read" in analyser.status("p").answer.reason
