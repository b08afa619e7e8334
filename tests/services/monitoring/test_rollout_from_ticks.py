"""What routers and outcomes tell, as the analyser takes it."""

from collections.abc import Mapping

from headrace.releases import Guard, Rollout
from headrace.ticks import ArmFigures, AssignedFigures
from services.monitoring.guards.guard import Objectives
from services.monitoring.outcomes.records import Judged
from services.monitoring.rollout_counts import RolloutCounts
from services.monitoring.rollouts.counts import ArmCounts, Tick
from tests.services.monitoring.rollout_simulation import CANARY, release_of


def counts_of(
    arms: Mapping[tuple[int, int], Mapping[str, ArmFigures]], judged: Mapping[tuple[int, str], Judged] | None
) -> tuple[RolloutCounts, list[Exception]]:
    errors: list[Exception] = []
    sticky.clear()

    async def outcomes(pipeline: str, since: int, by_key: bool) -> Mapping[tuple[int, str], Judged]:
        sticky.append(by_key)
        assert (pipeline, since) == ("p", 8)
        if judged is None:
            raise RuntimeError("the disk is full")
        return judged

    async def objectives(_: object) -> Objectives:
        return Objectives(200)

    return RolloutCounts(lambda _: arms, outcomes, objectives, errors.append), errors


# Whether judged predictions were asked for by key.
sticky: list[bool] = []
RELEASE = release_of(Rollout(arm=CANARY, since=8, guards={"wrong": Guard()}))
ARMS = {
    (0xAB, 8): {
        "live": ArmFigures(10, 1, (9, 1), assigned=AssignedFigures(4, bad_requests=1, answers=(3, 1)))
    }
}


async def test_each_router_and_release_is_a_source() -> None:
    arms = {
        **ARMS,
        (0xCD, 9): {
            CANARY: ArmFigures(
                5, 2, (5,), assigned=AssignedFigures(new_keys=3, fresh_rows=4, fresh_bad=1, answers=(2,))
            )
        },
    }
    counts, errors = counts_of(arms, {(8, "live"): Judged(7, 2), (9, "live"): Judged(1, 0)})
    assert await counts.ticks(RELEASE) == [
        Tick("router-ab", 8, {"live": ArmCounts(10, 1, (9, 1))}),
        Tick("router-ab", 8, {"live": ArmCounts(4, 1, (3, 1), assigned=4)}, "drawn"),
        Tick("router-cd", 9, {CANARY: ArmCounts(5, 2, (5,))}),
        Tick("router-cd", 9, {CANARY: ArmCounts(4, 1, (2,), assigned=3)}, "drawn"),
        Tick("outcomes", 8, {"live": ArmCounts(labelled=7, wrong=2)}),
        Tick("outcomes", 9, {"live": ArmCounts(labelled=1)}),
    ]
    assert (errors, sticky) == ([], [False])
    assert await counts.objectives(RELEASE) == Objectives(200)


async def test_where_arms_stick_to_keys_outcomes_are_counted_by_key() -> None:
    counts, _ = counts_of({}, {(8, "live"): Judged(7, 2)})
    assign = RELEASE.assign.model_copy(update={"by": "customer"})
    release = RELEASE.model_copy(update={"assign": assign})
    assert await counts.ticks(release) == [
        Tick("outcomes by key", 8, {"live": ArmCounts(labelled=7, wrong=2)})
    ]
    assert sticky == [True]


async def test_without_outcomes_the_other_guards_go_on() -> None:
    counts, errors = counts_of(ARMS, None)
    assert {tick.source for tick in await counts.ticks(RELEASE)} == {"router-ab"}
    assert [str(error) for error in errors] == ["the disk is full"]


async def test_outcomes_are_only_asked_for_where_a_guard_needs_them() -> None:
    counts, errors = counts_of(ARMS, None)
    release = RELEASE.model_copy(update={"rollout": Rollout(arm=CANARY, since=8)})
    assert {tick.source for tick in await counts.ticks(release)} == {"router-ab"}
    assert errors == []
