"""Looks at each rollout twice a second and writes what it decides into the release store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from headrace.analysis import ReadOut
from headrace.releases import (
    Experiment,
    FrozenError,
    Release,
    ReleaseError,
    ReleaseStore,
    RolloutState,
    StaleError,
)
from headrace.releases.errors import FencedError
from headrace.releases.store import Freeze
from services.monitoring.rollouts.changes import next_release
from services.monitoring.rollouts.evidence import Evidence, Objectives, key
from services.monitoring.rollouts.notices import Notices
from services.monitoring.rollouts.policy import Action, Decision, begin, decide
from services.monitoring.rollouts.ports import Counts, EvidenceStore, Lease, Log, Observer, RolloutEvent

# Evidence is saved this often: what was counted since then is still in the routers' cumulative counts.
_SAVE_S = 5.0
_ATTEMPTS = 3
_ACTIVE = (RolloutState.RUNNING, RolloutState.PAUSED)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Status:
    """Where a rollout is, for people. `looked`: when (seconds since 1970). `problem`: what keeps the analyser from acting; empty:
    nothing."""

    number: int
    decision: Decision | None
    looked: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """`edges_s`: upper edges of the latency buckets of ticks, in seconds."""

    edges_s: tuple[float, ...]
    period_s: float = 0.5


class Analyser:
    """Runs until cancelled. If the store, the lease or the evidence can't be reached, rollouts stay where they are and the status
    says so. `clock`: seconds since 1970. `threads`: where stores are called."""

    def __init__(
        self,
        store: ReleaseStore,
        counts: Counts,
        lease: Lease,
        evidence_store: EvidenceStore,
        settings: Settings,
        notices: Notices,
        observer: Observer,
        log: Log,
        clock: Callable[[], float],
        threads: Executor,
    ) -> None:
        self._store = store
        self._counts = counts
        self._lease = lease
        self._evidence_store = evidence_store
        self._settings = settings
        self._notices = notices
        self._observer = observer
        self._log = log
        self._clock = clock
        self._threads = threads
        self._evidence: dict[str, Evidence] = {}
        self._saved: dict[str, float] = {}
        self._status: dict[str, Status] = {}
        self._problems: dict[str, str] = {}
        self.leads = False

    def status(self, pipeline: str) -> Status | None:
        """The last look at the pipeline's rollout; None: this analyser has not looked at any."""
        return self._status.get(pipeline)

    @property
    def problem(self) -> str:
        """What keeps this analyser from acting on any rollout; empty: nothing."""
        return self._problems.get("", "")

    async def run(self) -> None:
        """Looks forever. Nothing but a cancellation ends it."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self.round()
                await asyncio.sleep(max(self._settings.period_s - (loop.time() - began), 0.0))
        finally:
            await self._give_up()

    async def round(self) -> None:
        """Looks once at every rollout. Raises nothing."""
        try:
            if not await self._lead():
                return
            pipelines, freeze = await self._blocking(self._live)
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
            await self._safely(pipeline, freeze)

    def _live(self) -> tuple[list[str], Freeze | None]:
        return self._store.pipelines(), self._store.frozen()

    async def _safely(self, pipeline: str, freeze: Freeze | None) -> None:
        """One pipeline's problem must not stop the others."""
        try:
            await self._look(pipeline, freeze)
            self._solved(pipeline)
        except FrozenError as error:
            self._problem(pipeline, "frozen", str(error))
        except StaleError as error:
            self._problem(pipeline, "stale", str(error))
        except FencedError as error:
            self._problem(pipeline, "lease", str(error))
        except ReleaseError as error:
            self._problem(pipeline, "refused", f"the store refused the change: {error}")
        except OSError as error:
            self._problem(pipeline, "store", f"the store of releases can't be reached: {error}")
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
            # What was gathered before may be older than what the other analyser saved meanwhile.
            self._evidence.clear()
            self._saved.clear()
        self._observer.leading(leads)
        return leads

    async def _look(self, pipeline: str, freeze: Freeze | None) -> None:
        for attempt in range(_ATTEMPTS):
            release, broken = await self._blocking(partial(self._store.current, pipeline))
            if release is None:
                raise ReleaseError(pipeline, [broken.problem if broken else "it has no release"])
            if release.rollout is None or release.rollout.state not in _ACTIVE:
                self._forget(pipeline)
                return
            decision = await self._decided(release, freeze)
            self._status[pipeline] = Status(release.number, decision, self._clock())
            if broken is not None and (decision is None or decision.action != Action.ROLL_BACK):
                # Whoever wrote it wanted something else than what goes on here; only harm is still ended.
                raise ReleaseError(pipeline, [f"the newest release can't be read: {broken.problem}"])
            if decision is None or decision.action == Action.HOLD:
                return
            following = next_release(release, decision, self._date(), broken.number if broken else None)
            if following is None:
                return
            try:
                await self._blocking(partial(self._store.commit, following))
            except StaleError:
                # Somebody changed the release meanwhile: look at theirs, and decide anew.
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                await self._changed(following, decision)
                return

    async def _decided(self, release: Release, freeze: Freeze | None) -> Decision | None:
        if release.rollout is not None and not release.rollout.since:
            return None if freeze else begin(release)
        now = self._clock()
        objectives = await self._counts.objectives(release)
        evidence = await self._evidence_of(release, objectives, now)
        evidence.look(release, await self._counts.ticks(release), now)
        decision = decide(release, evidence, objectives, now, frozen=freeze is not None)
        self._observer.looked(release.pipeline, decision, evidence.sample_ratio.e)
        if decision.action != Action.HOLD or now - self._saved.get(release.pipeline, 0.0) >= _SAVE_S:
            await self._save(release.pipeline, evidence, now)
        return decision

    async def _evidence_of(self, release: Release, objectives: Objectives, now: float) -> Evidence:
        pipeline = release.pipeline
        known = self._evidence.get(pipeline)
        if known is not None and known.key == key(release):
            return known
        evidence = Evidence(release, self._settings.edges_s, objectives, now)
        saved = await self._blocking(partial(self._load, pipeline))
        if saved is not None and not evidence.restore(saved):
            self._log.info("evidence begins anew: what was saved is of another rollout", pipeline=pipeline)
            evidence = Evidence(release, self._settings.edges_s, objectives, now)
        self._evidence[pipeline] = evidence
        return evidence

    def _load(self, pipeline: str) -> Mapping[str, Any] | None:
        try:
            return self._evidence_store.load(pipeline)
        except OSError as error:
            self._observer.failed("evidence")
            self._log.warning(
                "saved evidence can't be read; it begins anew", pipeline=pipeline, error=str(error)
            )
            return None

    async def _save(self, pipeline: str, evidence: Evidence, now: float) -> None:
        values = evidence.to_json()
        try:
            await self._blocking(partial(self._evidence_store.save, pipeline, values))
        except (OSError, ValueError) as error:
            self._observer.failed("evidence")
            self._log.warning("evidence can't be saved", pipeline=pipeline, error=str(error))
        self._saved[pipeline] = now

    async def _changed(self, release: Release, decision: Decision) -> None:
        event = RolloutEvent(
            release.pipeline,
            release.number,
            self._clock(),
            str(decision.action),
            str(decision.verdict),
            decision.weight,
            decision.reason,
            decision.guards,
        )
        self._log.info("rollout changed", **event.to_json())
        self._status[release.pipeline] = Status(release.number, decision, self._clock())
        self._observer.changed(release.pipeline, decision)
        self._notices.tell(event)

    def _forget(self, pipeline: str) -> None:
        """The pipeline has no rollout now. Its last status stays for people who ask how it ended."""
        if self._evidence.pop(pipeline, None) is not None:
            self._observer.gone(pipeline)
        self._saved.pop(pipeline, None)

    def _problem(self, pipeline: str, kind: str, text: str) -> None:
        """Says what is wrong once, not at each look."""
        if self._problems.get(pipeline) != text:
            log = self._log.error if kind == "bug" else self._log.warning
            log(
                "a rollout stays where it is" if pipeline else "all rollouts stay where they are",
                pipeline=pipeline,
                why=text,
            )
        self._observer.failed(kind)
        self._problems[pipeline] = text
        for name in [pipeline] if pipeline else list(self._status):
            last = self._status.get(name)
            number, decision = (last.number, last.decision) if last else (0, None)
            self._status[name] = Status(number, decision, last.looked if last else self._clock(), text)

    def _solved(self, pipeline: str) -> None:
        if self._problems.pop(pipeline, None) is not None:
            self._log.info("rollouts go on", pipeline=pipeline)

    async def _give_up(self) -> None:
        """Saves what is known and gives the lease back, so that another analyser goes on at once."""
        now = self._clock()
        for pipeline, evidence in self._evidence.items() if self.leads else ():
            await self._save(pipeline, evidence, now)
        try:
            await self._blocking(self._lease.release)
        except OSError as error:
            self._log.warning("the lease can't be given back; it runs out", error=str(error))

    def _date(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

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
