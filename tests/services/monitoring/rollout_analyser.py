"""An analyser over a real store of releases, with a simulated router and an injected clock."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.catalog.access import Records
from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.releases import Release
from headrace.releases.ladder import Action, Answer
from headrace.releases.of_records import RecordReleases
from services.control.ladder.ladder import Ladder
from services.control.metrics import Metrics
from services.monitoring.guards.guard import Facts, Objectives
from services.monitoring.rollouts import ports
from services.monitoring.rollouts.analyser import Analyser
from services.monitoring.rollouts.counts import Tick
from services.monitoring.rollouts.handover import ControlLadder, ControlLease
from services.monitoring.rollouts.judgement import Judgement
from tests.released import database
from tests.services.monitoring.monitoring_outcomes import Log
from tests.services.monitoring.rollout_simulation import CANARY, EDGES, START, Router, Traffic, keep_documents

# No test lasts so long.
LONG_S = 3600.0


class FaultyStore(RecordReleases):
    """It can't be reached while `fault` is set."""

    fault: Exception | None = None

    def current(self, pipeline: str) -> Any:
        self._maybe_fail()
        return super().current(pipeline)

    def pipelines(self) -> list[str]:
        self._maybe_fail()
        return super().pipelines()

    def _maybe_fail(self) -> None:
        if self.fault:
            raise self.fault


@dataclass
class Observed(Log):
    """An `Observer` and a `Log` that remember."""

    failures: list[str] = field(default_factory=list)
    changes: list[Answer] = field(default_factory=list)
    gone_pipelines: list[str] = field(default_factory=list)
    leads: bool = False

    def looked(self, pipeline: str, judgement: Judgement, answer: Answer) -> None:
        if answer.action is not Action.HOLD:
            self.changes.append(answer)

    def failed(self, kind: str) -> None:
        self.failures.append(kind)

    def leading(self, leads: bool) -> None:
        self.leads = leads

    def gone(self, pipeline: str) -> None:
        self.gone_pipelines.append(pipeline)


class World:
    """The store, the routers and the time, which analysers share."""

    def __init__(
        self, folder: Path, traffic: Traffic | None = None, records: RemoteRecords | None = None
    ) -> None:
        self.folder = folder
        self.records: Records
        self.ladder: ports.Ladder
        if records is not None:
            self.records, self.ladder = records, ControlLadder(records)
        else:
            # The ladder of a control works here, by the world's clock.
            self.records = own = CatalogRecords.open(str(database(folder)), initialise=True)
            self.ladder = Ladder(lambda: own, lambda: self.now, Metrics(CollectorRegistry()), Log())
        self.store = FaultyStore(self.records)
        self.router = Router(traffic or Traffic(), seed=1)
        self.threads = ThreadPoolExecutor(4)
        self.now = START
        self.second = 0
        self.newest: Sequence[Tick] = ()

    def deploy(self, release: Release) -> None:
        """Stores a release whose number is 7, and what is needed before it."""
        keep_documents(self.store, release.pipeline)
        for number in range(1, 7):
            earlier = {"number": number, "parent": number - 1, "rollout": None}
            self.store.commit(release.model_copy(update=earlier))
        self.store.commit(release.model_copy(update={"parent": 6}))

    @property
    def release(self) -> Release:
        found, _ = RecordReleases(self.records).current("p")
        assert found is not None
        return found

    async def ticks(self, release: Release) -> Sequence[Tick]:
        return self.newest

    async def facts(self, release: Release, objectives: Objectives) -> Facts:
        return self.router.answering.facts(release, CANARY, self.now) if release.pipeline == "p" else Facts()

    async def objectives(self, release: Release) -> Objectives:
        return Objectives()

    def close(self) -> None:
        self.threads.shutdown()
        self.records.close()

    def pass_second(self) -> None:
        """A second of traffic."""
        self.second += 1
        self.now += 1
        self.newest = self.router.second(self.release, self.second)

    def pass_time(self, seconds: int) -> None:
        """Seconds of traffic at which nobody looks."""
        for _ in range(seconds):
            self.pass_second()

    def analyser(self, observed: Observed, own: RemoteRecords | None = None) -> Analyser:
        """`own`: its way to control."""
        return Analyser(
            RecordReleases(own) if own else self.store,
            self,
            ControlLease(own or self.records, "test", LONG_S),
            ControlLadder(own) if own else self.ladder,
            EDGES,
            observed,
            observed,
            lambda: self.now,
            self.threads,
        )

    async def look(self, analyser: Analyser, seconds: int) -> None:
        """So many seconds, with a look after each."""
        for _ in range(seconds):
            self.pass_second()
            if isinstance(self.ladder, Ladder):
                self.ladder.tick()
            await analyser.round()
