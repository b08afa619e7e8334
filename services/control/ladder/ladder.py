"""Carries out what the machine decides, by compare-and-set: every process of control may do it, and one wins."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from headrace.catalog.access import LeaseToken, Position
from headrace.catalog.errors import RecordsError
from headrace.catalog.records import CatalogRecords
from headrace.releases.changes.basis import ACTIVE
from headrace.releases.document import from_bytes
from headrace.releases.errors import ReleaseError, StaleError
from headrace.releases.ladder import LEASE, Action, Answer, Report, canary_share
from headrace.releases.of_records import RELEASE, RecordReleases
from services.control.ladder import machine
from services.control.ladder.changes import next_release
from services.control.metrics import Metrics

# What could not be done by itself is tried again, and said again, after so long.
_AGAIN_S = 60.0


class Ladder:
    """`records`: raises RecordsUnavailableError while there are none. `wall`: seconds since 1970. Methods block. `tick` is not
    for several threads at a time."""

    def __init__(
        self, records: Callable[[], CatalogRecords], wall: Callable[[], float], metrics: Metrics, log: Any
    ) -> None:
        self._records = records
        self._wall = wall
        self._metrics = metrics
        self._log = log
        # When something becomes of a pipeline's rollout by itself, as of this position.
        self._due: dict[str, float] = {}
        self._seen: Position | None = None

    def report(self, report: Report) -> Answer:
        """Does what follows from a verdict. Raises RecordsError."""
        store = RecordReleases(self._records())
        try:
            try:
                return self._act(store, report.pipeline, report)
            except StaleError:
                # Somebody was faster, so the verdict is on an older release now.
                return self._act(store, report.pipeline, report)
        except ReleaseError as error:
            return Answer(Action.HOLD, report.number, 0.0, "; ".join(error.problems))

    def tick(self) -> None:
        """Does what is due without a verdict. Raises RecordsError."""
        records, now = self._records(), self._wall()
        self._follow(records)
        for pipeline in [name for name, due in self._due.items() if due <= now]:
            try:
                self._act(RecordReleases(records), pipeline)
            except RecordsError:
                raise
            except StaleError:
                continue  # it is followed next time
            except Exception as error:  # noqa: BLE001 - one pipeline's problem must not stop the others
                self._due[pipeline] = now + _AGAIN_S
                self._log.error(
                    "a rollout stays where it is", pipeline=pipeline, why=str(error) or repr(error)
                )

    def _follow(self, records: CatalogRecords) -> None:
        """Looks at the releases that changed since the last time."""
        seen = self._seen
        position, changed = records.changes_since(seen.number if seen else 0, [RELEASE])
        if seen is not None and (position.epoch != seen.epoch or position.number < seen.number):
            self._due.clear()
            position, changed = records.changes_since(0, [RELEASE])
        for record in changed:
            self._due.pop(record.name, None)
            try:
                release = None if record.content is None else from_bytes(record.name, record.content)
            except ReleaseError:
                continue  # nothing changes by itself then
            if release is not None and (due := machine.due(release)) is not None:
                self._due[record.name] = due
        self._seen = position

    def _act(self, store: RecordReleases, pipeline: str, report: Report | None = None) -> Answer:
        """Raises StaleError, ReleaseError, RecordsError."""
        frozen = store.frozen() is not None
        current, broken = store.current(pipeline)
        history = store.history(pipeline)
        if current is None or not history or (rollout := history[0].rollout) is None:
            raise ReleaseError(pipeline, ["rollout: there is none"])
        release, now = history[0], self._wall()
        weight = canary_share(release.assign.weights, rollout.arm)

        def held(reason: str) -> Answer:
            return Answer(Action.HOLD, release.number, weight, reason, machine.ends(rollout))

        if report is not None and report.number != release.number:
            return held(f"stale: release {release.number} is the newest, the verdict is on {report.number}")
        if rollout.state not in ACTIVE:
            return held(f"it is over: {rollout.state}")
        decision = machine.decide(history, now, report, frozen=frozen)
        if broken is not None and decision.action is not Action.ROLL_BACK:
            # Whoever wrote it wanted something else than what goes on here; only harm is still ended.
            return held(f"the newest release can't be read: {broken.problem}")
        at, figures = datetime.fromtimestamp(now, UTC), report.figures if report else ""
        made = next_release(release, decision, at, figures, broken.number if broken else None)
        if made is None:
            return held(decision.reason)
        store.commit(made, automatic=True, lease=LeaseToken(LEASE, report.lease) if report else None)
        action, verdict = str(decision.action), str(report.verdict) if report else ""
        self._metrics.rollouts.labels(pipeline, action, verdict).inc()
        about = {"pipeline": pipeline, "number": made.number, "action": action, "verdict": verdict}
        self._log.info("rollout changed", **about, reason=made.reason)
        return Answer(decision.action, made.number, decision.weight, decision.reason, machine.ends(rollout))
