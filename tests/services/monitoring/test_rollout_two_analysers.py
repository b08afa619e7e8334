"""Two analysers of one rollout at a real control: one decides, the other takes over, and nothing is decided twice."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from headrace.catalog.remote import RemoteRecords
from headrace.releases import Rollout, RolloutState
from headrace.releases.document import LIVE
from headrace.releases.ladder import Answer, Report, RolloutVerdict
from services.monitoring.rollouts.analyser import Analyser
from tests.control_service import ControlService, Here, control_here
from tests.services.monitoring.rollout_analyser import LONG_S, Observed, World
from tests.services.monitoring.rollout_simulation import CANARY, Traffic, release_of

# Stages pass by control's clock, and the routers count many seconds in one of its.
LADDER = Rollout(arm=CANARY, ladder=(0.05, 0.5, 1.0), stage_s=0.05)


class ControlWorld(World):
    """Several analysers, each with a way to control of its own."""

    def __init__(self, folder: Path, control: Here | ControlService, traffic: Traffic | None = None) -> None:
        self._open = ExitStack()
        self.control = control
        super().__init__(folder, traffic, self._way())
        self.deploy(release_of(LADDER))

    def _way(self) -> RemoteRecords:
        return self._open.enter_context(closing(RemoteRecords(self.control.target)))

    async def until_begun(self) -> None:
        """Control begins the rollout by its own clock."""
        while not self.release.rollout.since:
            await asyncio.sleep(0.01)

    def another(self, observed: Observed) -> Analyser:
        return self.analyser(observed, self._way())

    def end_lease(self) -> None:
        """As if it had run out."""
        self.control.execute("UPDATE leases SET until = 0")

    def close(self) -> None:
        super().close()
        self._open.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ControlWorld]:
    with control_here(tmp_path / "control") as control, closing(ControlWorld(tmp_path, control)) as found:
        yield found


async def test_of_what_a_stopped_analyser_says_after_its_lease_nothing_is_made(
    world: ControlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped between its judgement and the call, while the next one has the lease and has said nothing yet, so that the
    number of its release is still right."""
    one_saw, other_saw = Observed(), Observed()
    one, other = world.another(one_saw), world.another(other_saw)
    await world.until_begun()
    begun = world.release
    assert begun.rollout.since == 8
    report, reached, go_on = one._ladder.report, threading.Event(), threading.Event()

    def stopped(said: Report) -> Answer:
        if said.verdict is not RolloutVerdict.MAY_STEP_UP or said.weight < 0.5:
            return report(said)
        reached.set()
        assert go_on.wait(LONG_S)
        return report(said)

    monkeypatch.setattr(one._ladder, "report", stopped)
    looking = asyncio.create_task(world.look(one, 240))
    try:
        assert await asyncio.to_thread(reached.wait, LONG_S)
        world.end_lease()
        assert other._lease.hold()
    finally:
        go_on.set()
    await looking
    # Refused, and then it stands by: the lease is the other's.
    assert world.release.number == begun.number
    assert (one_saw.failures, one_saw.leads, one_saw.changes) == (["lease"], False, [])
    assert "is not held any more" in one.status("p").problem
    while world.release.rollout.state == RolloutState.RUNNING:
        await world.look(other, 1)
    assert world.release.rollout.state == RolloutState.PROMOTED
    assert len(other_saw.changes) == 3


async def test_a_lease_that_returned_has_no_old_evidence(world: ControlWorld) -> None:
    """It lost the lease and nobody has it now: what it knew may be older than what another saved meanwhile."""
    observed = Observed()
    one = world.another(observed)
    await world.until_begun()
    await world.look(one, 3)
    world.end_lease()
    await world.look(one, 1)
    assert (observed.leads, one._evidence) == (False, {})
    await world.look(one, 1)
    assert observed.leads


async def test_while_control_is_away_nothing_is_decided_and_the_loop_runs(tmp_path: Path) -> None:
    observed = Observed()
    with (
        ControlService() as control,
        closing(ControlWorld(tmp_path, control, Traffic(canary_errors=0.5))) as world,
    ):
        analyser = world.another(observed)
        await world.until_begun()
        await world.look(analyser, 1)
        world.pass_time(10)
        control.kill()
        away = asyncio.create_task(analyser.round())
        turns = 0
        while not away.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100
        assert (observed.leads, observed.failures) == (False, ["lease"])
        assert "the lease can't be reached" in analyser.problem
        control.start()
        while world.release.rollout.state == RolloutState.RUNNING:
            await world.look(analyser, 1)
        assert world.release.rollout.state == RolloutState.ROLLED_BACK
        assert world.release.assign.weights == {LIVE: 1.0, CANARY: 0.0}
