"""What routers and outcomes tell, as the analyser takes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.releases import Guard, Rollout
from services.monitoring.rollout_counts import RolloutCounts
from services.monitoring.rollouts.counts import ArmCounts, Tick
from services.monitoring.rollouts.evidence import Objectives
from tests.services.monitoring.rollout_simulation import CANARY, release_of


@dataclass(frozen=True)
class Assigned:
    requests: int = 0
    new_keys: int = 0
    fresh_rows: int = 0
    fresh_bad: int = 0


@dataclass(frozen=True)
class Figures:
    rows: int
    errors: int
    latency: tuple[int, ...]
    assigned: Assigned


@dataclass(frozen=True)
class Judged:
    rows: int
    wrong: int


def counts_of(
    arms: Mapping[tuple[int, int], Mapping[str, Figures]], judged: Mapping[tuple[int, str], Judged] | None
) -> tuple[RolloutCounts, list[Exception]]:
    errors: list[Exception] = []

    async def outcomes(pipeline: str, since: int) -> Mapping[tuple[int, str], Judged]:
        assert (pipeline, since) == ("p", 8)
        if judged is None:
            raise RuntimeError("the disk is full")
        return judged

    async def objectives(_: object) -> Objectives:
        return Objectives(200)

    return RolloutCounts(lambda _: arms, outcomes, objectives, errors.append), errors


RELEASE = release_of(Rollout(arm=CANARY, since=8, guards={"wrong": Guard()}))
ARMS = {(0xAB, 8): {"live": Figures(10, 1, (9, 1), Assigned(4))}}


async def test_each_router_and_release_is_a_source() -> None:
    arms = {**ARMS, (0xCD, 9): {CANARY: Figures(5, 2, (5,), Assigned(0, 3, 4, 1))}}
    counts, errors = counts_of(arms, {(8, "live"): Judged(7, 2), (9, "live"): Judged(1, 0)})
    assert await counts.ticks(RELEASE) == [
        Tick("router-ab", 8, {"live": ArmCounts(10, 1, (9, 1), assigned=4)}),
        Tick("router-cd", 9, {CANARY: ArmCounts(5, 2, (5,))}),
        Tick("router-cd", 9, {CANARY: ArmCounts(4, 1, assigned=3)}, "key"),
        Tick("outcomes", 8, {"live": ArmCounts(labelled=7, wrong=2)}),
        Tick("outcomes", 9, {"live": ArmCounts(labelled=1)}),
    ]
    assert errors == []
    assert await counts.objectives(RELEASE) == Objectives(200)


async def test_without_outcomes_the_other_guards_go_on() -> None:
    counts, errors = counts_of(ARMS, None)
    assert [tick.source for tick in await counts.ticks(RELEASE)] == ["router-ab"]
    assert [str(error) for error in errors] == ["the disk is full"]


async def test_outcomes_are_only_asked_for_where_a_guard_needs_them() -> None:
    counts, errors = counts_of(ARMS, None)
    release = RELEASE.model_copy(update={"rollout": Rollout(arm=CANARY, since=8)})
    assert len(await counts.ticks(release)) == 1
    assert errors == []
