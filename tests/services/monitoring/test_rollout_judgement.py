"""What monitoring says of a rollout, and what control's ladder makes of it: each action by an example, and its reason."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.releases import Arm, Experiment, Guard, OneOf, Release, Rollout, RolloutState, Rule, Shadow
from headrace.releases.changes.rollouts import PREVIOUS
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


def begun(rollout: Rollout | None = None, *, sticky: bool = False) -> Release:
    """A rollout at its first step that has just begun, as release 8."""
    following = rollout_simulation.begun(release_of(rollout or rollout_of(), sticky=sticky))
    assert following is not None
    return following


def rollout_of(**values: Any) -> Rollout:
    # Where the ticks have no times, nothing waits for them.
    guards = {"slow": Guard(required=False)} | values.pop("guards", {})
    return Rollout(arm=CANARY, guards=guards, ladder=(0.05, 0.5, 1.0), **values)


def decided(
    release: Release,
    arms: Mapping[str, ArmCounts] | Sequence[Tick],
    seconds: float = 31,
    objectives: Objectives | None = None,
) -> Decided:
    """The decision on a rollout whose evidence began at START, after these counts."""
    evidence = Evidence(release, EDGES, objectives or Objectives(), START)
    evidence.look(release, [], START)
    ticks = [Tick("r", release.number, arms)] if isinstance(arms, Mapping) else arms
    evidence.look(release, ticks, START + seconds, GOOD)
    return rollout_simulation.decided([release], evidence, START + seconds, objectives)


def changed(release: Release, decision: Decided) -> Release:
    following = decision.following
    assert following is not None
    assert (following.number, following.parent) == (release.number + 1, release.number)
    assert following.author == AUTHOR
    assert following.reason == following.rollout.verdict == decision.reason
    return following


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


def test_harm_rolls_back_at_once() -> None:
    release = begun()
    decision = decided(release, {LIVE: ArmCounts(285), CANARY: ArmCounts(15, 7)}, seconds=1)
    assert (decision.action, decision.verdict) == (Action.ROLL_BACK, Verdict.HARM)
    assert decision.reason.startswith("harm by errors at 5.00%. ")
    following = changed(release, decision)
    assert following.assign.weights == {LIVE: 1.0, CANARY: 0.0}
    assert following.rollout.state == RolloutState.ROLLED_BACK
    assert CANARY in following.arms


def taken(release: Release, action: Action) -> Release:
    """The next release by this action, at full weight 32 s after START."""
    decision = Decision(action, "test", 2, 1.0)
    following = next_release(release, decision, datetime.fromtimestamp(START + 32, UTC))
    assert following is not None
    return following


def at_full_weight() -> tuple[Release, Evidence]:
    release = begun()
    evidence = Evidence(release, EDGES, Objectives(), START)
    evidence.look(release, [Tick("r", 8, FINE)], START + 31, GOOD)
    full = taken(release, Action.STEP)
    evidence.look(full, [], START + 32)
    return full, evidence


def test_at_full_weight_it_waits_once_more_and_then_is_promoted() -> None:
    release, evidence = at_full_weight()
    more = {CANARY: ArmCounts(9000, 9)}
    evidence.look(release, [Tick("r", 9, more)], START + 40)
    assert rollout_simulation.decided([release], evidence, START + 40).action == Action.HOLD
    evidence.look(release, [Tick("r", 9, {CANARY: ArmCounts(9900, 9)})], START + 63)
    decision = rollout_simulation.decided([release], evidence, START + 63)
    assert decision.action == Action.PROMOTE
    following = changed(release, decision)
    assert following.live == release.arms[CANARY]
    assert following.arms == {LIVE: release.arms[CANARY], PREVIOUS: release.live}
    assert following.assign.weights == {LIVE: 1.0, PREVIOUS: 0.0}
    assert following.rollout.state == RolloutState.PROMOTED


def test_at_full_weight_harm_is_seen_against_what_the_live_arm_did_before() -> None:
    release, evidence = at_full_weight()
    evidence.look(release, [Tick("r", 9, {CANARY: ArmCounts(900, 60)})], START + 35)
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


def test_too_little_data_holds_and_says_what_is_missing() -> None:
    few = {LIVE: ArmCounts(9000), CANARY: ArmCounts(40)}
    decision = decided(begun(), few)
    assert (decision.action, decision.verdict) == (Action.HOLD, Verdict.NOT_ENOUGH_DATA)
    assert "errors: an excess of at most" in decision.reason
    assert "the next step is 50.00%" in decision.reason
    assert decision.following is None
    assert decided(begun(), FINE, seconds=5).reason.startswith("5 of at least 30 s at 5.00%")
    assert decided(begun(), []).reason.startswith("no counts arrive")


@pytest.mark.parametrize(
    ("otherwise", "action", "state"),
    [
        ("pause", Action.PAUSE, RolloutState.PAUSED),
        ("promote", Action.PROMOTE, RolloutState.PROMOTED),
        ("roll_back", Action.ROLL_BACK, RolloutState.ROLLED_BACK),
    ],
)
def test_at_the_deadline_otherwise_is_done(otherwise: str, action: Action, state: RolloutState) -> None:
    release = begun(rollout_of(otherwise=otherwise, deadline_s=600))
    few = {LIVE: ArmCounts(9000), CANARY: ArmCounts(40)}
    assert decided(release, few, seconds=599).action == Action.HOLD
    decision = decided(release, few, seconds=600)
    assert (decision.action, decision.verdict) == (action, Verdict.NOT_ENOUGH_DATA)
    assert "not proven within 600 s" in decision.reason
    following = changed(release, decision)
    assert following.rollout.state == state
    if action == Action.PAUSE:
        assert following.assign == release.assign


def test_harm_comes_before_the_deadline() -> None:
    release = begun(rollout_of(otherwise="promote", deadline_s=600))
    assert decided(release, {LIVE: ArmCounts(285), CANARY: ArmCounts(15, 7)}, 700).action == Action.ROLL_BACK


def test_wrong_shares_pause() -> None:
    release = begun()
    arms = {LIVE: ArmCounts(3000, assigned=3000), CANARY: ArmCounts(600, assigned=600)}
    decision = decided(release, [Tick("r", 8, arms, "drawn")])
    assert decision.action == Action.PAUSE
    assert "shares" in decision.reason
    assert "of 1000 from 3600" in decision.reason
    following = changed(release, decision)
    assert following.rollout.state == RolloutState.PAUSED
    assert following.assign == release.assign


def test_a_small_error_budget_slows_the_rollout() -> None:
    release = begun()
    assert decided(release, FINE, objectives=Objectives(budgets={"errors": 1e6})).action == Action.STEP
    slowed = decided(release, FINE, objectives=Objectives(budgets={"errors": 50.0}))
    assert slowed.action == Action.HOLD
    assert "errors: the error budget (left: 50 rows) allows" in slowed.reason
    assert decided(release, FINE, objectives=Objectives(budgets={"errors": -3.0})).action == Action.HOLD


def test_a_guard_that_is_not_required_holds_nothing_up_but_may_roll_back() -> None:
    guards = {"errors": Guard(), "wrong": Guard(required=False)}
    release = begun(rollout_of(guards=guards))
    assert decided(release, FINE).action == Action.STEP
    flipped = {LIVE: ArmCounts(285, labelled=285, wrong=57), CANARY: ArmCounts(60, labelled=60, wrong=48)}
    assert decided(release, flipped, seconds=3).reason.startswith("harm by wrong")


def test_a_required_guard_without_data_holds() -> None:
    release = begun(rollout_of(guards={"errors": Guard(), "wrong": Guard()}))
    assert "wrong: no data" in decided(release, FINE).reason


def slow_ticks(threshold_rows: int = 400) -> list[Tick]:
    before = Tick("r", 7, {LIVE: ArmCounts(threshold_rows, latency=(380 * threshold_rows // 400, 20, 0, 0))})
    now = Tick(
        "r", 8, {LIVE: ArmCounts(285, latency=(271, 14, 0, 0)), CANARY: ArmCounts(15, latency=(0, 0, 15, 0))}
    )
    return [before, now]


def test_slow_is_what_is_above_the_live_arms_p95_of_before() -> None:
    release = begun(rollout_of(guards={"slow": Guard()}))
    decision = decided(release, slow_ticks(), seconds=1)
    assert decision.action == Action.ROLL_BACK
    assert "slow over 100 ms: canary 15 bad of 15 (100.000%), live 14 bad of 285" in decision.reason
    # Without enough rows of before, the first ones of the rollout are taken.
    assert decided(release, slow_ticks(40), seconds=1).action == Action.HOLD


@pytest.mark.parametrize(
    ("guard", "objectives", "over"),
    [
        (Guard(slow_ms=150), Objectives(), 200),
        (Guard(), Objectives(slow_ms=400), 400),
        (Guard(slow_ms=90), Objectives(400), 100),
    ],
)
def test_slow_is_what_is_above_the_objective(guard: Guard, objectives: Objectives, over: int) -> None:
    decision = decided(begun(rollout_of(guards={"slow": guard})), slow_ticks(), 1, objectives)
    assert f"slow over {over} ms" in decision.reason


def test_what_chance_divided_is_compared_and_not_rows() -> None:
    """A client that always fails gives many bad rows and one bad key; a request of 90 bad rows is one bad request."""
    release = begun(sticky=True)
    rows = Tick("r", 8, {LIVE: ArmCounts(2850), CANARY: ArmCounts(150, 90)})
    drawn = Tick("r", 8, {LIVE: ArmCounts(2850), CANARY: ArmCounts(60, 1)}, "drawn")
    assert decided(release, [rows, drawn]).action == Action.HOLD
    # A collector that tells nothing else gives rows, which is better than nothing.
    assert decided(release, [rows]).action == Action.ROLL_BACK


def test_slow_answers_count_once_however_many_rows_they_have() -> None:
    release = begun(rollout_of(guards={"slow": Guard(slow_ms=100)}))
    rows = Tick("r", 8, {LIVE: ArmCounts(950, latency=(950, 0)), CANARY: ArmCounts(50, latency=(0, 50))})
    answers = Tick(
        "r", 8, {LIVE: ArmCounts(95, latency=(95, 0)), CANARY: ArmCounts(5, latency=(4, 1))}, "drawn"
    )
    decision = decided(release, [rows, answers])
    assert decision.action == Action.HOLD
    assert "canary 1 bad of 5" in decision.reason
    assert decided(release, [rows]).action == Action.ROLL_BACK


def test_counts_of_before_the_rollout_and_of_unknown_releases_are_left_out() -> None:
    bad = {LIVE: ArmCounts(285), CANARY: ArmCounts(15, 14)}
    assert decided(begun(), [Tick("r", 7, bad), Tick("r", 30, bad)]).reason.startswith("no counts arrive")


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
    evidence.look(release, [], START)
    evidence.look(release, [Tick("r", 8, FINE)], START + 31, GOOD)
    evidence.look(release, [], START - 1000)
    # Control's own clock has gone back, too; the stage has not passed there.
    for now, action in ((START - 1000, Action.HOLD), (START + 31, Action.STEP)):
        assert rollout_simulation.decided([release], evidence, now).action == action
