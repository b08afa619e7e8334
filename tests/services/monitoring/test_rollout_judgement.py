"""What monitoring says of a rollout, and what control's ladder makes of it: each action by an example, and its reason."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.releases import Arm, Experiment, Guard, OneOf, Release, Rollout, RolloutState, Rule, Shadow
from headrace.releases.changes.rollouts import PREVIOUS, holdback_plan
from headrace.releases.document import LIVE
from headrace.releases.ladder import Action
from services.control.ladder.changes import next_release
from services.control.ladder.machine import AUTHOR, Decision
from services.monitoring.guards.guard import Objectives, Verdict
from services.monitoring.rollouts.counts import ArmCounts, Tick
from services.monitoring.rollouts.evidence import Evidence
from tests.services.monitoring import rollout_simulation
from tests.services.monitoring.rollout_answers import good_answers
from tests.services.monitoring.rollout_simulation import CANARY, START, Decided, release_of

EDGES = (0.1, 0.2, 0.4)
AT = datetime.fromtimestamp(START, UTC)
GOOD = good_answers(8)
FINE = {LIVE: ArmCounts(30_000, 30), CANARY: ArmCounts(5000, 5)}
NONE = Objectives()
SLOW: dict[str, Any] = {"guards": {"slow": Guard()}}


def begun(rollout: Rollout | None = None, *, sticky: bool = False) -> Release:
    """A rollout at its first step that has just begun, as release 8."""
    following = rollout_simulation.begun(release_of(rollout or rollout_of(), sticky=sticky))
    assert following is not None
    return following


def rollout_of(**values: Any) -> Rollout:
    # Where the ticks have no times, nothing waits for them.
    guards = {"slow": Guard(required=False)} | values.pop("guards", {})
    return Rollout(**{"arm": CANARY, "guards": guards, "ladder": (0.05, 0.5, 1.0), **values})


def decided(
    release: Release,
    arms: Mapping[str, ArmCounts] | Sequence[Tick],
    seconds: float = 31,
    objectives: Objectives | None = None,
) -> Decided:
    """The decision on a rollout whose evidence began at START, after these counts."""
    evidence = Evidence(release, EDGES, objectives or Objectives(), START)
    evidence.update(release, [], START)
    ticks = [Tick("r", release.number, arms)] if isinstance(arms, Mapping) else arms
    evidence.update(release, ticks, START + seconds, GOOD)
    return rollout_simulation.decided([release], evidence, START + seconds, objectives)


def changed(release: Release, decision: Decided) -> Release:
    following = decision.following
    assert following is not None
    assert (following.number, following.parent) == (release.number + 1, release.number)
    assert following.author == AUTHOR
    assert following.reason == following.rollout.verdict == decision.reason
    return following


def budget(left: float) -> Objectives:
    return Objectives(budgets={"errors": left})


def slow(ms: float) -> dict[str, Any]:
    return {"guards": {"slow": Guard(slow_ms=ms)}}


def test_it_begins_at_the_first_step_of_the_ladder() -> None:
    release = begun()
    assert release.assign.weights == {LIVE: 0.95, CANARY: 0.05}
    assert (release.rollout.since, release.rollout.started, release.rollout.step) == (8, AT, 0)
    assert rollout_simulation.begun(release) is None


def test_a_harmless_canary_steps_up_and_the_reason_has_the_figures() -> None:
    release = begun()
    decision = decided(release, FINE)
    assert (decision.action, decision.verdict) == (Action.STEP, Verdict.PROVEN_FINE)
    following = changed(release, decision)
    assert following.assign.weights == {LIVE: 0.5, CANARY: 0.5}
    assert following.rollout.step == 1
    assert following.rollout.state == RolloutState.RUNNING
    reason = decision.reason
    assert reason.startswith(
        "from 5.00% to 50.00%. errors: canary 5 bad of 5000 (0.100%), live 30 bad of 30000 (0.100%); "
    )
    assert "evidence for harm 0." in reason
    assert "of 833, for fine" in reason
    assert "excess at most 0.30% of" in reason
    assert "of allowed 0.50%, 0.60% would show in 1701" in reason
    assert "answers were not seen" not in reason


def test_other_arms_keep_their_weight() -> None:
    release = release_of(rollout_of())
    arms = {**release.arms, "third": release.live}
    assign = release.assign.model_copy(update={"weights": {LIVE: 0.6, "third": 0.4}})
    release = release.model_copy(update={"arms": arms, "assign": assign})
    started = rollout_simulation.begun(release)
    assert started is not None
    assert started.assign.weights == pytest.approx({LIVE: 0.57, CANARY: 0.03, "third": 0.4})
    counts = {LIVE: ArmCounts(1000), CANARY: ArmCounts(50, 40)}
    back = changed(started, decided(started, counts))
    assert back.assign.weights == pytest.approx({LIVE: 0.6, CANARY: 0.0, "third": 0.4})


FEW = {LIVE: ArmCounts(9000), CANARY: ArmCounts(40)}
HARM = {LIVE: ArmCounts(285), CANARY: ArmCounts(15, 7)}
FLIPPED = {LIVE: ArmCounts(285, labelled=285, wrong=57), CANARY: ArmCounts(60, labelled=60, wrong=48)}
SHARES = {LIVE: ArmCounts(3000, assigned=3000), CANARY: ArmCounts(600, assigned=600)}


def slow_ticks(before: int = 400) -> list[Tick]:
    """p95 of the live arm lies at 100 ms, before the rollout; all of the canary is slower."""
    latencies = {LIVE: (271, 14, 0, 0), CANARY: (0, 0, 15, 0)}
    now = {arm: ArmCounts(sum(latency), latency=latency) for arm, latency in latencies.items()}
    latency = (95 * before // 100, before // 20, 0, 0)
    return [Tick("r", 7, {LIVE: ArmCounts(before, latency=latency)}), Tick("r", 8, now)]


def units(rows: tuple[ArmCounts, ArmCounts], *drawn: ArmCounts) -> list[Tick]:
    """Counts of both arms, by row, and by what chance divided."""
    found = [Tick("r", 8, dict(zip((LIVE, CANARY), rows, strict=True)))]
    return [*found, Tick("r", 8, dict(zip((LIVE, CANARY), drawn, strict=True)), "drawn")] if drawn else found


# A client that always fails gives many bad rows and one bad key; a request of 90 bad rows is one bad request.
BAD_CLIENT = ArmCounts(2850), ArmCounts(150, 90)
# Rows that are answered together have one time.
SLOW_BATCH = ArmCounts(950, latency=(950, 0)), ArmCounts(50, latency=(0, 50))
AS_ONE = ArmCounts(95, latency=(95, 0)), ArmCounts(5, latency=(4, 1))
ELSEWHERE = [Tick("r", 7, HARM), Tick("r", 30, HARM)]
HOLD, STEP, PAUSE, PROMOTE, BACK = Action.HOLD, Action.STEP, Action.PAUSE, Action.PROMOTE, Action.ROLL_BACK
HELD = holdback_plan({}).rules
LATE = "not proven within 600 s"
OVER_P95 = "slow over 100 ms: canary 15 bad of 15 (100.000%), live 14 bad of 285"
OPTIONAL = {"wrong": Guard(required=False)}
# What → rules of the rollout, counts, seconds after its begin, objectives, what is done, and why.
CASES: dict[str, tuple[dict[str, Any], Any, float, Objectives, Action, str]] = {
    "harm": ({}, HARM, 1, NONE, BACK, "harm by errors at 5.00%. "),
    "too few": ({}, FEW, 31, NONE, HOLD, "at most 14.10% allows 3.55%, the next step is 50.00%"),
    "too early": ({}, FINE, 5, NONE, HOLD, "5 of at least 30 s at 5.00%"),
    "no counts": ({}, [], 31, NONE, HOLD, "no counts arrive"),
    "counts of before and of unknown releases": ({}, ELSEWHERE, 31, NONE, HOLD, "no counts arrive"),
    "before the deadline": ({"deadline_s": 600}, FEW, 599, NONE, HOLD, "next step"),
    "deadline: pause": ({"deadline_s": 600}, FEW, 600, NONE, PAUSE, LATE),
    "deadline: promote": ({"deadline_s": 600, "otherwise": "promote"}, FEW, 600, NONE, PROMOTE, LATE),
    "deadline: back": ({"deadline_s": 600, "otherwise": "roll_back"}, FEW, 600, NONE, BACK, LATE),
    "a holdback": (HELD, FINE, 3599, NONE, HOLD, "at 95.00%"),
    "its end": (HELD, FINE, 3600, NONE, PROMOTE, "the holdback of 3600 s ends. errors: "),
    "harm in it": (HELD, HARM, 1, NONE, BACK, "harm by errors at 95.00%"),
    "harm after it": ({"deadline_s": 600, "otherwise": "promote"}, HARM, 700, NONE, BACK, "harm by"),
    "wrong shares": ({}, [Tick("r", 8, SHARES, "drawn")], 31, NONE, PAUSE, "of 1000 from 3600"),
    "a large budget": ({}, FINE, 31, budget(1e6), STEP, "to 50.00%"),
    "a small budget": ({}, FINE, 31, budget(50.0), HOLD, "errors: the error budget (left: 50 rows) allows"),
    "no budget": ({}, FINE, 31, budget(-3.0), HOLD, "error budget"),
    "an optional guard without data": ({"guards": OPTIONAL}, FINE, 31, NONE, STEP, "to 50.00%"),
    "harm by an optional guard": ({"guards": OPTIONAL}, FLIPPED, 3, NONE, BACK, "harm by wrong"),
    "a guard without data": ({"guards": {"wrong": Guard()}}, FINE, 31, NONE, HOLD, "wrong: no data"),
    "slower than p95": (SLOW, slow_ticks(), 1, NONE, BACK, OVER_P95),
    "too few before": (SLOW, slow_ticks(40), 1, NONE, HOLD, ""),
    "slower than the rollout says": (slow(150), slow_ticks(), 1, NONE, BACK, "slow over 200 ms"),
    "slower than promised": (SLOW, slow_ticks(), 1, Objectives(slow_ms=400), HOLD, "slow over 400 ms"),
    "both": (slow(90), slow_ticks(), 1, Objectives(400), BACK, "slow over 100 ms"),
    "a bad client": ({}, units(BAD_CLIENT, ArmCounts(2850), ArmCounts(60, 1)), 31, NONE, HOLD, ""),
    "rows where nothing else is told": ({}, units(BAD_CLIENT), 31, NONE, BACK, "harm by errors"),
    "a slow batch": (slow(100), units(SLOW_BATCH, *AS_ONE), 31, NONE, HOLD, "canary 1 bad of 5"),
    "slow rows": (slow(100), units(SLOW_BATCH), 31, NONE, BACK, "harm by slow"),
}


@pytest.mark.parametrize(
    ("rules", "counts", "seconds", "objectives", "action", "says"), CASES.values(), ids=CASES
)
def test_what_is_counted_decides(
    rules: dict[str, Any], counts: Any, seconds: float, objectives: Objectives, action: Action, says: str
) -> None:
    release = begun(rollout_of(**rules))
    decision = decided(release, counts, seconds, objectives)
    assert (decision.action, says in decision.reason) == (action, True), decision.reason
    assert (decision.verdict == Verdict.HARM) == (action is BACK and LATE not in decision.reason)
    following = changed(release, decision) if action is not HOLD else release
    weights, state = {
        HOLD: (release.assign.weights, RolloutState.RUNNING),
        STEP: ({LIVE: 0.5, CANARY: 0.5}, RolloutState.RUNNING),
        PAUSE: (release.assign.weights, RolloutState.PAUSED),
        PROMOTE: ({LIVE: 1.0, PREVIOUS: 0.0}, RolloutState.PROMOTED),
        BACK: ({LIVE: 1.0, CANARY: 0.0}, RolloutState.ROLLED_BACK),
    }[action]
    assert (following.assign.weights, following.rollout.state) == (weights, state)


def taken(release: Release, action: Action) -> Release:
    """The next release by this action, at full weight 32 s after START."""
    decision = Decision(action, "test", 2, 1.0)
    following = next_release(release, decision, datetime.fromtimestamp(START + 32, UTC))
    assert following is not None
    return following


def at_full_weight(counts: Mapping[str, ArmCounts] = FINE) -> tuple[Release, Evidence]:
    release = begun()
    evidence = Evidence(release, EDGES, Objectives(), START)
    evidence.update(release, [Tick("r", 8, counts)], START + 31, GOOD)
    full = taken(release, Action.STEP)
    evidence.update(full, [], START + 32)
    return full, evidence


def test_at_full_weight_it_waits_once_more_and_then_is_promoted() -> None:
    release, evidence = at_full_weight()
    more = {CANARY: ArmCounts(9000, 9)}
    evidence.update(release, [Tick("r", 9, more)], START + 40)
    assert rollout_simulation.decided([release], evidence, START + 40).action == Action.HOLD
    evidence.update(release, [Tick("r", 9, {CANARY: ArmCounts(9900, 9)})], START + 63)
    decision = rollout_simulation.decided([release], evidence, START + 63)
    assert decision.action == Action.PROMOTE
    following = changed(release, decision)
    assert following.live == release.arms[CANARY]
    assert following.arms == {LIVE: release.arms[CANARY], PREVIOUS: release.live}
    assert following.assign.weights == {LIVE: 1.0, PREVIOUS: 0.0}
    assert following.rollout.state == RolloutState.PROMOTED


def test_what_is_not_proven_is_not_promoted() -> None:
    release, evidence = at_full_weight(FEW)
    evidence.update(release, [Tick("r", 9, {CANARY: ArmCounts(90)})], START + 63)
    decision = rollout_simulation.decided([release], evidence, START + 63)
    assert decision.reason.startswith("not yet proven fine: errors. ")


def test_at_full_weight_harm_is_seen_against_what_the_live_arm_did_before() -> None:
    release, evidence = at_full_weight()
    evidence.update(release, [Tick("r", 9, {CANARY: ArmCounts(900, 60)})], START + 35)
    decision = rollout_simulation.decided([release], evidence, START + 35)
    assert decision.action == Action.ROLL_BACK
    assert changed(release, decision).assign.weights == {LIVE: 1.0, CANARY: 0.0}


def test_what_names_the_arms_follows_a_promotion() -> None:
    release, _ = at_full_weight()
    rules = (
        Rule(name="staff", when={"@tenant": OneOf(any=("staff",))}, arm=CANARY),
        Rule(name="other", when={"@tenant": OneOf(any=("other",))}, arm=LIVE),
    )
    update = {
        "rules": rules,
        "shadow": Shadow(arm=CANARY),
        "experiment": Experiment(name="e", arms=(LIVE, CANARY), outcome="o"),
    }
    release = release.model_copy(update=update)
    following = taken(release, Action.PROMOTE)
    assert [rule.arm for rule in following.rules] == [LIVE, LIVE]
    assert following.shadow is None
    assert following.experiment is None


def test_another_candidate_or_other_rules_are_another_rollout() -> None:
    release = begun()
    known = Evidence(release, EDGES, Objectives(), START).key
    arms = {**release.arms, CANARY: Arm(version=2, revision="c" * 64)}
    stricter = release.rollout.model_copy(update={"guards": {"errors": Guard(fine_ratio=0.5)}})
    for update in ({"arms": arms}, {"rollout": stricter}):
        assert Evidence(release.model_copy(update=update), EDGES, Objectives(), START).key != known


def test_a_clock_that_goes_back_stands_still() -> None:
    release = begun()
    evidence = Evidence(release, EDGES, Objectives(), START)
    evidence.update(release, [], START)
    evidence.update(release, [Tick("r", 8, FINE)], START + 31, GOOD)
    evidence.update(release, [], START - 1000)
    # Control's own clock has gone back, too; the stage has not passed there.
    for now, action in ((START - 1000, Action.HOLD), (START + 31, Action.STEP)):
        assert rollout_simulation.decided([release], evidence, now).action == action
