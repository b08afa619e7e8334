"""The counts of routers and of outcomes as the analyser of rollouts takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from headrace.releases import Release
from headrace.releases.document import LIVE, Arm
from headrace.ticks import ArmFigures, AssignedFigures
from services.monitoring.accuracy.records import VersionWindows
from services.monitoring.drift.monitor import Look
from services.monitoring.drift.ports import Traffic
from services.monitoring.guards.answers import Answers, Ends
from services.monitoring.guards.counter import Wanted
from services.monitoring.guards.guard import Facts, Objectives
from services.monitoring.outcomes.records import Judged
from services.monitoring.rollouts.counts import ArmCounts, Tick

_OUTCOMES = "outcomes"
# Counts of keys are no continuation of counts of rows.
_OF_KEYS = "outcomes by key"


# Pipeline → (epoch, release) → arm → cumulative counts.
ByEpoch: TypeAlias = Callable[[str], Mapping[tuple[int, int], Mapping[str, ArmFigures]]]
# Pipeline, first release, whether arms stick to keys → (release, arm) → judged predictions: of keys that were not wrong before,
# if they do. May raise anything if outcomes can't be read.
JudgedSince: TypeAlias = Callable[[str, int, bool], Awaitable[Mapping[tuple[int, str], Judged]]]


@dataclass(frozen=True, slots=True)
class Seen:
    """Who knows of answers. `answers`: pipeline, what is wanted → what was counted since the last call; `drift`: the newest look
    at each series of a pipeline; `ranges`: pipeline, revision, arm → those of outputs by its baseline; `accuracy`: of each
    version of a pipeline. It may raise anything if outcomes can't be read."""

    answers: Callable[[str, Wanted], Mapping[tuple[int, str], Answers]]
    drift: Callable[[str], Sequence[Look]]
    ranges: Callable[[str, str, str], Mapping[str, Ends]]
    accuracy: Callable[[str], Coroutine[None, None, Sequence[VersionWindows]]]


class RolloutCounts:
    """A `Counts` of what the monitoring service has gathered.

    `objectives`: what a release's live pipeline promises. `failed`: told when outcomes can't be read; the other guards go on.
    """

    def __init__(
        self,
        by_epoch: ByEpoch,
        judged: JudgedSince,
        objectives: Callable[[Release], Awaitable[Objectives]],
        failed: Callable[[Exception], None],
        seen: Seen | None = None,
    ) -> None:
        """`seen`: None: nobody looks at answers."""
        self._seen = seen
        self._reading: dict[str, asyncio.Future[Sequence[VersionWindows]]] = {}
        self._accuracy: dict[str, Sequence[VersionWindows]] = {}
        self._by_epoch = by_epoch
        self._judged = judged
        self._objectives = objectives
        self._failed = failed

    async def ticks(self, release: Release) -> Sequence[Tick]:
        """See rollouts.ports.Counts."""
        found: list[Tick] = []
        for (epoch, number), arms in self._by_epoch(release.pipeline).items():
            found += router_ticks(f"router-{epoch:x}", number, arms)
        rollout = release.rollout
        if rollout is not None and "wrong" in rollout.guards:
            found += await self._outcomes(release.pipeline, rollout.since, release.assign.by is not None)
        return found

    async def facts(self, release: Release, objectives: Objectives) -> Facts:
        """See rollouts.ports.Counts."""
        rollout, seen = release.rollout, self._seen
        if seen is None or rollout is None:
            return Facts()
        arms = {arm: release.arms[arm] for arm in (LIVE, rollout.arm)}
        by_key = release.assign.by is not None
        wanted = Wanted(rollout.since, tuple(arms), by_key, objectives.ranges, objectives.segments)
        drifted = {
            look.series.arm: {
                f"{c}/{check}": str(alarm.verdict) for (c, check), alarm in look.alarms.raised.items()
            }
            for look in seen.drift(release.pipeline)
            if look.verdicts
            and look.series.traffic is Traffic.LIVE
            and look.series.arm in arms
            and look.series.revision == arms[look.series.arm].revision
        }
        return Facts(
            seen.answers(release.pipeline, wanted), drifted, _expected(arms, self._versions(release.pipeline))
        )

    def _versions(self, pipeline: str) -> Sequence[VersionWindows]:
        """As they were read last: a database that hangs must not hold up what is found by the other guards."""
        if (seen := self._seen) is None:
            return ()
        reading = self._reading.get(pipeline)
        if reading is None or reading.done():
            self._reading[pipeline] = asyncio.ensure_future(seen.accuracy(pipeline))
            if reading is not None and isinstance(error := reading.exception(), Exception):
                self._failed(error)
            elif reading is not None:
                self._accuracy[pipeline] = reading.result()
        return self._accuracy.get(pipeline, ())

    async def objectives(self, release: Release) -> Objectives:
        """See rollouts.ports.Counts."""
        found = await self._objectives(release)
        if self._seen is None or found.ranges:
            return found
        return replace(found, ranges=self._seen.ranges(release.pipeline, release.live.revision, LIVE))

    async def _outcomes(self, pipeline: str, since: int, by_key: bool) -> Sequence[Tick]:
        try:
            judged = await self._judged(pipeline, since, by_key)
        except Exception as error:  # noqa: BLE001 - whatever keeps outcomes from being read must not stop the other guards
            self._failed(error)
            return []
        return outcome_ticks(judged, _OF_KEYS if by_key else _OUTCOMES)


def router_ticks(source: str, release: int, arms: Mapping[str, ArmFigures]) -> Sequence[Tick]:
    """The ticks of one router under one release: by row, and by drawn unit if it divides any."""
    rows = {arm: ArmCounts(f.rows, f.errors, tuple(f.latency)) for arm, f in arms.items()}
    drawn = {arm: _drawn(f.assigned) for arm, f in arms.items()}
    found = [Tick(source, release, rows)]
    if any(counts.latency for counts in drawn.values()):
        found.append(Tick(source, release, drawn, "drawn"))
    return found


def _drawn(units: AssignedFigures) -> ArmCounts:
    # A release divides either requests or keys.
    rows, bad = units.requests + units.fresh_rows, units.bad_requests + units.fresh_bad
    return ArmCounts(rows, bad, tuple(units.answers), assigned=units.requests + units.new_keys)


def outcome_ticks(judged: Mapping[tuple[int, str], Judged], source: str = _OUTCOMES) -> Sequence[Tick]:
    """The ticks of outcomes: one for each release."""
    by_release: dict[int, dict[str, ArmCounts]] = {}
    for (release, arm), counts in judged.items():
        by_release.setdefault(release, {})[arm] = ArmCounts(labelled=counts.rows, wrong=counts.wrong)
    return [Tick(source, release, arms) for release, arms in by_release.items()]


def _expected(
    arms: Mapping[str, Arm], versions: Sequence[VersionWindows]
) -> dict[str, tuple[int, int, float]]:
    """Of each arm what is labelled, what of it was right, and how much of it its model expected to be right, if labelled rows are
    like the others of their time. Arms that run the same can't be told apart."""
    ran = {arm: (dict(of.models), of.revision[:12]) for arm, of in arms.items()}
    found: dict[str, tuple[int, int, float]] = {}
    for arm, of_arm in ran.items():
        if list(ran.values()).count(of_arm) > 1:
            continue
        known = [
            w
            for v in versions
            if _is_of(v.version, *of_arm)
            for w in v.windows
            if w.labelled and w.expected_rows
        ]
        if known:
            rows, wrong = sum(w.labelled for w in known), sum(w.wrong for w in known)
            found[arm] = rows, rows - wrong, sum(w.labelled * w.expected / w.expected_rows for w in known)
    return found


def _is_of(version: str, models: Mapping[str, str], revision: str) -> bool:
    """Whether `version_of` said so of something that ran these models, or some of them, by this document."""
    used, _, by = version.partition(" (")
    every = {f"{model}={number}" for model, number in models.items()}
    return by == f"{revision})" and {*used.split(",")} <= {*every, "no model"}
