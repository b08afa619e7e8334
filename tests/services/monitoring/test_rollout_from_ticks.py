"""What routers and outcomes tell, as the analyser takes it."""

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from headrace.drift import Check, Level, Verdict
from headrace.pipeline import content_hash
from headrace.releases import LIVE, Arm, Guard, Rollout
from headrace.ticks import ArmFigures, AssignedFigures
from services.monitoring.accuracy.records import VersionWindows, Window
from services.monitoring.drift.alarms import Alarms
from services.monitoring.drift.monitor import Look
from services.monitoring.drift.ports import Followed, Series, Traffic
from services.monitoring.guards.answers import Answers
from services.monitoring.guards.counter import Wanted
from services.monitoring.guards.guard import Objectives
from services.monitoring.objectives import ReleaseObjectives
from services.monitoring.outcomes.records import Judged
from services.monitoring.rollout_counts import RolloutCounts, Seen
from services.monitoring.rollouts.counts import ArmCounts, Streams, Tick
from services.monitoring.ticks import Ticks
from tests.libs.pipeline.pipeline_documents import SMALL, changed
from tests.released import keep_document, releases_in
from tests.services.monitoring.rollout_simulation import CANARY, release_of


def counts_of(
    arms: Mapping[tuple[int, int], Mapping[str, ArmFigures]],
    judged: Mapping[tuple[int, str], Judged] | None,
    seen: Seen | None = None,
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

    return RolloutCounts(lambda _: arms, outcomes, objectives, errors.append, seen), errors


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
    # They are only asked for where a guard needs them.
    await counts.ticks(RELEASE.model_copy(update={"rollout": Rollout(arm=CANARY, since=8)}))
    assert len(errors) == 1


async def test_what_events_drift_and_outcomes_say_is_gathered_by_arm() -> None:
    """A database that hangs or fails holds up nobody: what was read last is taken."""
    found, wanted, gate = (8, LIVE), list[Wanted](), asyncio.Event()
    live, canary = (release.revision for release in RELEASE.arms.values())
    verdict = Verdict("x", "input", Check.NULLS, Level.ALERT, 0.1, 0.0, 0.001, 900)
    alarms = Alarms()
    alarms.look([verdict], 0.0)
    looks = [
        Look(Series("p", live, LIVE), Followed(None, 8), Alarms(), (verdict,)),
        Look(Series("p", canary, CANARY), Followed(None, 8), alarms, (verdict,)),
        Look(Series("p", "older", CANARY), Followed(None, 8), Alarms(), (verdict,)),
        Look(Series("p", canary, CANARY, Traffic.SHADOW), Followed(None, 8), Alarms(), (verdict,)),
    ]

    def answers(pipeline: str, of: Wanted) -> dict[tuple[int, str], Answers]:
        wanted.append(of)
        return {found: Answers(rows=3)}

    async def accuracy(pipeline: str) -> list[VersionWindows]:
        await gate.wait()
        versions = f"no model ({canary[:12]})", f"m=1 ({canary[:12]})", f"no model ({live[:12]})"
        return [VersionWindows("p", v, [Window(0, 100, 10, 2, 100, 90), Window(60, 9)]) for v in versions]

    seen = Seen(answers, lambda _: looks, lambda *_: {"y": (0.0, 1.0)}, accuracy)
    counts, errors = counts_of({}, None, seen)
    objectives = await counts.objectives(RELEASE)
    for _ in range(2):
        facts = await counts.facts(RELEASE, objectives)
        assert (facts.answers[found].rows, facts.expected) == (3, {})
    assert facts.drifted == {LIVE: {}, CANARY: {"x/nulls": str(verdict)}}
    assert wanted[0] == Wanted(8, (LIVE, CANARY), False, {"y": (0.0, 1.0)}, {})
    gate.set()
    while not facts.expected:
        facts = await counts.facts(RELEASE, objectives)
        await asyncio.sleep(0)
    assert facts.expected == {LIVE: (10, 8, 9.0), CANARY: (10, 8, 9.0)}
    assert not errors


def test_ranges_and_segments_are_those_of_the_new_versions_document(tmp_path: Path) -> None:
    output = ("[yes_or_no, probability, name]", "[yes_or_no, {column: probability, range: [0, null]}, name]")
    new = changed(("deadline_ms: 250", "deadline_ms: 250\nsegments: [name]"), output)
    release = release_of(Rollout(arm=CANARY))
    with releases_in(tmp_path) as store:
        for arm, text in ((LIVE, SMALL), (CANARY, new)):
            revision = str(content_hash(text))
            keep_document(store, "p", revision, text)
            arms = {**release.arms, arm: Arm(version=1, revision=revision)}
            release = release.model_copy(update={"arms": arms})
        found = ReleaseObjectives(store, Ticks(lambda: 0.0), lambda: 0.0)(release)
    assert found.ranges == {"probability": (0.0, math.inf)}
    assert found.segments == {"name": (b"ann", b"bob")}


def test_all_is_counted_once_and_an_arm_that_is_missing_did_not_change() -> None:
    streams = Streams()
    counts = ArmCounts(9, 2, (8, 1), 3, 1, 4)
    for once in ({"live": counts}, {}):
        assert streams.take(Tick("other", 8, {"live": counts})) == once
    more = ArmCounts(10, 2, (8, 1, 1), 3, 1, 5)
    assert streams.take(Tick("other", 8, {"live": more})) == {"live": ArmCounts(1, 0, (0, 0, 1), assigned=1)}
    streams.take(Tick("r", 8, {"live": ArmCounts(100, 1)}))
    assert streams.take(Tick("r", 8, {"canary": ArmCounts(3)})) == {"canary": ArmCounts(3)}
    assert streams.take(Tick("r", 8, {"live": ArmCounts(101, 1)})) == {"live": ArmCounts(1)}


@pytest.mark.parametrize(
    "counts",
    [ArmCounts(13, 14), ArmCounts(13, -1), ArmCounts(13, 1, labelled=1, wrong=2), ArmCounts(11, 1)],
)
def test_counts_that_cant_be_true_or_are_older_add_nothing(counts: ArmCounts) -> None:
    streams = Streams()
    streams.take(Tick("r", 8, {"live": ArmCounts(12, 1), "canary": ArmCounts(5)}))
    assert streams.take(Tick("r", 8, {"live": counts, "canary": ArmCounts(6)})) is None
    assert streams.take(Tick("r", 8, {"live": ArmCounts(13, 1)})) == {"live": ArmCounts(1)}


def test_old_releases_are_forgotten() -> None:
    streams = Streams()
    for number in range(5):
        streams.take(Tick("r", number, {"live": ArmCounts(1)}))
    streams.forget_before(3)
    assert {number for _, number, _ in streams.last} == {3, 4}
