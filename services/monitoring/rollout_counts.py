"""The counts of routers and of outcomes as the analyser of rollouts takes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias

from headrace.releases import Release
from headrace.ticks import ArmFigures, AssignedFigures
from services.monitoring.outcomes.records import Judged
from services.monitoring.rollouts.counts import ArmCounts, Tick
from services.monitoring.rollouts.evidence import Objectives

_OUTCOMES = "outcomes"
# Counts of keys are no continuation of counts of rows.
_OF_KEYS = "outcomes by key"


# Pipeline → (epoch, release) → arm → cumulative counts.
ByEpoch: TypeAlias = Callable[[str], Mapping[tuple[int, int], Mapping[str, ArmFigures]]]
# Pipeline, first release, whether arms stick to keys → (release, arm) → judged predictions: of keys that were not wrong before,
# if they do. May raise anything if outcomes can't be read.
JudgedSince: TypeAlias = Callable[[str, int, bool], Awaitable[Mapping[tuple[int, str], Judged]]]


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
    ) -> None:
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

    async def objectives(self, release: Release) -> Objectives:
        """See rollouts.ports.Counts."""
        return await self._objectives(release)

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
