"""The ladder as a state machine: whatever verdicts come, in whatever order, the promises hold."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.releases import Release, Rollout, RolloutState
from headrace.releases.changes.basis import ACTIVE
from headrace.releases.changes.rollouts import PREVIOUS
from headrace.releases.document import LIVE
from headrace.releases.ladder import Action, Report, RolloutVerdict
from services.control.ladder.changes import next_release
from services.control.ladder.machine import PATIENCE_S, decide, due
from tests.services.monitoring.rollout_simulation import CANARY, START, release_of

STAGE_S, DEADLINE_S = 20.0, 300.0
VERDICTS = st.sampled_from([*RolloutVerdict, *[RolloutVerdict.MAY_STEP_UP] * 5])
WEIGHTS = st.sampled_from([0.0, 0.05, 0.3, 1.0])


class LadderMachine(RuleBasedStateMachine):
    """Verdicts that nobody checks; people pause, freeze, resume and change the release; control looks by its clock alone."""

    @initialize(
        ladder=st.sampled_from([(0.01, 0.05, 0.25, 1.0), (0.5, 1.0), (1.0,)]),
        otherwise=st.sampled_from(["pause", "promote", "roll_back"]),
        begun=st.sampled_from([True, True, False]),
    )
    def start(self, ladder: tuple[float, ...], otherwise: Any, begun: bool) -> None:
        rollout = Rollout(
            arm=CANARY, ladder=ladder, otherwise=otherwise, stage_s=STAGE_S, deadline_s=DEADLINE_S
        )
        self.history = [release_of(rollout)]
        self.original, self.candidate = self.release.live, self.release.arms[CANARY]
        self.now = self.weight_since = START
        self.frozen = False
        self.back = self.otherwise = self.changes = 0
        # What it was paused for; who goes on then accepts it.
        self.accepted: set[str] = set()
        if begun:
            assert self.act(None) is Action.START

    @property
    def release(self) -> Release:
        return self.history[0]

    @property
    def active(self) -> bool:
        return self.release.rollout.state in ACTIVE

    @rule(seconds=st.sampled_from([-5.0, 1.0, 7.0, 30.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen

    # Ten releases are kept, and what the ladder did is read in them.
    @precondition(lambda self: self.active and self.changes < 4)
    @rule(state=st.sampled_from(["paused", "running"]), frozen=st.booleans())
    def a_person_changes_the_release(self, state: str, frozen: bool) -> None:
        self.changes += 1
        rollout = self.release.rollout.model_dump(mode="json") | {"state": state}
        changed = self.release.next("person", "because", rollout=rollout, frozen=frozen)
        self.history.insert(0, changed.model_copy(update={"at": datetime.fromtimestamp(self.now, UTC)}))

    @precondition(lambda self: self.active)
    @rule(
        verdict=VERDICTS,
        weight=WEIGHTS,
        seconds=st.sampled_from([0.0, 25.0]),
        suspicion=st.sampled_from(["", "", "", "found by shift"]),
    )
    def a_verdict_comes(
        self, verdict: RolloutVerdict, weight: float, seconds: float, suspicion: str = ""
    ) -> None:
        self.now += seconds
        before, otherwise = self.release, self.otherwise
        action = self.act(Report("p", before.number, verdict, "says so", weight=weight, suspicion=suspicion))
        paused = action is Action.PAUSE and self.release.reason == suspicion
        assert not (paused and suspicion in self.accepted)
        if suspicion and action in (Action.STEP, Action.PROMOTE) and self.otherwise == otherwise:
            assert suspicion in self.accepted
        if paused:
            self.accepted.add(suspicion)
        if action is Action.STEP:
            assert verdict is RolloutVerdict.MAY_STEP_UP
            assert weight >= before.rollout.ladder[before.rollout.step + 1]
        if action is Action.PROMOTE and self.otherwise == otherwise:
            assert verdict is RolloutVerdict.PROVEN_FINE
            assert before.assign.weights[CANARY] == 1

    @precondition(lambda self: self.active)
    @rule()
    def nobody_says_anything(self) -> None:
        at, now = due(self.release), self.now
        action = self.act(None)
        assert action is not Action.STEP
        if action is not Action.HOLD:
            assert at is not None
            assert at <= now

    def act(self, report: Report | None) -> Action:
        before, began = self.release, self.release.rollout.since
        decision = decide(self.history, self.now, report, frozen=self.frozen)
        following = next_release(before, decision, datetime.fromtimestamp(self.now, UTC))
        if self.frozen or before.frozen or before.rollout.state == RolloutState.PAUSED:
            assert decision.action is Action.HOLD
        assert (following is None) == (decision.action is Action.HOLD)
        if following is None:
            return decision.action
        # The old and the new arm are there, so that going back is possible at any weight.
        assert before.live == self.original
        self.history.insert(0, following)
        del self.history[10:]
        if decision.action is Action.START:
            assert not began
        if decision.action is Action.STEP:
            assert following.rollout.step == before.rollout.step + 1
            assert self.now - self.weight_since >= STAGE_S
        if "`otherwise`" in decision.reason:
            self.otherwise += 1
            end = before.rollout.started.timestamp() + DEADLINE_S
            assert self.now >= end + (PATIENCE_S if report is None else 0)
        self.back += decision.action is Action.ROLL_BACK
        if decision.action in (Action.START, Action.STEP):
            self.weight_since = self.now
        return decision.action

    @invariant()
    def it_goes_back_once_and_does_otherwise_once(self) -> None:
        assert max(getattr(self, "back", 0), getattr(self, "otherwise", 0)) <= 1

    @invariant()
    def weights_are_those_of_the_state(self) -> None:
        if not hasattr(self, "history"):
            return
        weights, rollout = self.release.assign.weights, self.release.rollout
        match rollout.state:
            case RolloutState.ROLLED_BACK:
                assert (weights, self.release.live) == ({LIVE: 1.0, CANARY: 0.0}, self.original)
            case RolloutState.PROMOTED:
                assert weights == {LIVE: 1.0, PREVIOUS: 0.0}
                assert (self.release.live, self.release.arms[PREVIOUS]) == (self.candidate, self.original)
            case _:
                share = rollout.ladder[rollout.step] if rollout.since else 0.0
                assert abs(weights[CANARY] - share) < 1e-9


TestLadder = LadderMachine.TestCase
TestLadder.settings = settings(stateful_step_count=40, deadline=None)


def test_who_resumes_after_the_deadline_is_not_paused_again() -> None:
    machine = LadderMachine()
    machine.start((0.5, 1.0), "pause", begun=True)
    machine.now += DEADLINE_S + PATIENCE_S
    assert machine.act(None) is Action.PAUSE
    machine.a_person_changes_the_release("running", frozen=False)
    assert machine.act(None) is Action.HOLD
    machine.a_verdict_comes(RolloutVerdict.HARM, 0.0, 0.0)
    assert machine.release.rollout.state is RolloutState.ROLLED_BACK
