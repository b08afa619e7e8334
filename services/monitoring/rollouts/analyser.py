"""Judges each rollout twice a second and tells control, which acts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from headrace.analysis import ReadOut
from headrace.catalog.errors import LeaseLostError, RecordsError
from headrace.releases import Experiment, Release, ReleaseError, ReleaseStore
from headrace.releases.changes.basis import ACTIVE
from headrace.releases.ladder import Answer, Report
from services.monitoring.guards.guard import Objectives
from services.monitoring.ports import Log
from services.monitoring.rollouts.evidence import Evidence, key
from services.monitoring.rollouts.handover import ControlLease
from services.monitoring.rollouts.judgement import Judgement, judge
from services.monitoring.rollouts.ports import Counts, Ladder, Observer

_PERIOD_S = 0.5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Status:
    """Where a rollout is, for people. `answer`: what control made of the judgement; None of both: there was none yet. `looked`:
    when (seconds since 1970). `problem`: what keeps the rollout from being judged; empty: nothing."""

    number: int
    judgement: Judgement | None
    answer: Answer | None
    looked: float
    problem: str = ""


class Analyser:
    """Runs until cancelled. If control can't be reached, rollouts stay where they are and the status says so.
    `edges_s`: upper edges of the latency buckets of ticks, in seconds. `clock`: seconds since 1970. `threads`: where stores are
    called."""

    def __init__(
        self,
        store: ReleaseStore,
        counts: Counts,
        lease: ControlLease,
        ladder: Ladder,
        edges_s: Sequence[float],
        observer: Observer,
        log: Log,
        clock: Callable[[], float],
        threads: Executor,
    ) -> None:
        self._store = store
        self._counts = counts
        self._lease = lease
        self._edges_s = edges_s
        self._ladder = ladder
        self._observer = observer
        self._log = log
        self._clock = clock
        self._threads = threads
        self._evidence: dict[str, Evidence] = {}
        self._status: dict[str, Status] = {}
        self._problems: dict[str, str] = {}
        self.leads = False

    def status(self, pipeline: str) -> Status | None:
        """The last look at the pipeline's rollout; None: this analyser has not looked at any."""
        return self._status.get(pipeline)

    @property
    def problem(self) -> str:
        """What keeps this analyser from judging any rollout; empty: nothing."""
        return self._problems.get("", "")

    async def run(self) -> None:
        """Looks forever. Nothing but a cancellation ends it."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self.round()
                await asyncio.sleep(max(_PERIOD_S - (loop.time() - began), 0.0))
        finally:
            await self._give_up()

    async def round(self) -> None:
        """Looks once at every rollout. Raises nothing."""
        try:
            if not await self._lead():
                return
            pipelines = await self._blocking(self._store.pipelines)
            self._solved("")
        except OSError as error:
            self._problem("", "store", f"the store of releases can't be reached: {error}")
            return
        except Exception as error:  # noqa: BLE001 - a bug must not end the loop; it is said, and the next round tries again
            self._problem("", "bug", repr(error))
            return
        for gone in self._status.keys() - set(pipelines):
            self._forget(gone)
            del self._status[gone]
            self._problems.pop(gone, None)
        for pipeline in pipelines:
            await self._safely(pipeline)

    async def _safely(self, pipeline: str) -> None:
        """One pipeline's problem must not stop the others."""
        try:
            await self._judge(pipeline)
            self._solved(pipeline)
        except LeaseLostError as error:
            self._problem(pipeline, "lease", str(error))
        except OSError as error:
            self._problem(pipeline, "store", f"the store of releases can't be reached: {error}")
        except (ReleaseError, RecordsError) as error:
            self._problem(pipeline, "refused", f"it can't be judged: {error}")
        except Exception as error:  # noqa: BLE001 - as in `round`
            self._problem(pipeline, "bug", repr(error))

    async def _lead(self) -> bool:
        try:
            leads = await self._blocking(self._lease.hold)
        except OSError as error:
            self._problem("", "lease", f"the lease can't be reached: {error}")
            leads = False
        else:
            if not leads:
                self._problems[""] = "another analyser holds the lease"
        if leads != self.leads:
            self.leads = leads
            self._log.info("analyser leads" if leads else "analyser stands by")
            # The other analyser may have counted meanwhile.
            self._evidence.clear()
        self._observer.leading(leads)
        return leads

    async def _judge(self, pipeline: str) -> None:
        release, broken = await self._blocking(partial(self._store.current, pipeline))
        if release is None:
            raise ReleaseError(pipeline, [broken.problem if broken else "it has no release"])
        rollout = release.rollout
        if rollout is None or rollout.state not in ACTIVE:
            self._forget(pipeline)
            return
        now = self._clock()
        if not rollout.since:
            # Control has yet to begin it.
            self._status[pipeline] = Status(release.number, None, None, now)
            return
        objectives = await self._counts.objectives(release)
        evidence = await self._evidence_of(release, objectives, now)
        facts = await self._counts.facts(release, objectives)
        evidence.update(release, await self._counts.ticks(release), now, facts)
        judgement = judge(release, evidence, objectives)
        report = Report(
            pipeline,
            release.number,
            judgement.verdict,
            judgement.reason,
            judgement.figures,
            judgement.weight,
            self._lease.token,
            judgement.suspicion,
        )
        answer = await self._blocking(partial(self._ladder.report, report))
        self._observer.looked(pipeline, judgement, answer)
        self._status[pipeline] = Status(answer.number, judgement, answer, now)

    async def _evidence_of(self, release: Release, objectives: Objectives, now: float) -> Evidence:
        pipeline = release.pipeline
        known = self._evidence.get(pipeline)
        if known is None or known.key != key(release):
            history = await self._blocking(partial(self._store.history, pipeline))
            known = self._evidence[pipeline] = Evidence(release, self._edges_s, objectives, now, history)
        return known

    def _forget(self, pipeline: str) -> None:
        """The pipeline has no rollout now. Its last status stays for people who ask how it ended."""
        if self._evidence.pop(pipeline, None) is not None:
            self._observer.gone(pipeline)

    def _problem(self, pipeline: str, kind: str, text: str) -> None:
        """Says what is wrong once, not at each look."""
        if self._problems.get(pipeline) != text:
            log = self._log.error if kind == "bug" else self._log.warning
            log(
                "a rollout is not judged" if pipeline else "no rollout is judged",
                pipeline=pipeline,
                why=text,
            )
        self._observer.failed(kind)
        self._problems[pipeline] = text
        for name in [pipeline] if pipeline else list(self._status):
            last = self._status.get(name)
            self._status[name] = (
                replace(last, problem=text) if last else Status(0, None, None, self._clock(), text)
            )

    def _solved(self, pipeline: str) -> None:
        if self._problems.pop(pipeline, None) is not None:
            self._log.info("rollouts go on", pipeline=pipeline)

    async def _give_up(self) -> None:
        """Gives the lease back, so that another analyser goes on at once."""
        try:
            await self._blocking(self._lease.release)
        except OSError as error:
            self._log.warning("the lease can't be given back; it runs out", error=str(error))

    async def _blocking(self, call: Callable[[], T]) -> T:
        """What it returns or raises. Who is cancelled still waits for its end: a lease that is taken while `_give_up` gives it
        back would stay taken."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait((running,))
            raise


@dataclass(frozen=True, slots=True)
class Analysis:
    """What can be asked of an analyser. `read_out`: pipeline → its running experiment and what is known of it; None: there is
    none. It raises StorageError or OSError."""

    analyser: Analyser
    read_out: Callable[[str], Awaitable[tuple[Experiment, ReadOut] | None]]
