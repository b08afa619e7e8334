"""The rollout as a state machine: whatever arrives in whatever order, the promises hold."""

import json
from datetime import UTC, datetime
from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.releases import Guard, Release, Rollout, RolloutState
from headrace.releases.document import LIVE, GuardName
from services.monitoring.rollouts.changes import PREVIOUS, next_release
from services.monitoring.rollouts.counts import ArmCounts, Tick
from services.monitoring.rollouts.evidence import Evidence, Objectives
from services.monitoring.rollouts.policy import Action, Decision, begin, decide
from services.monitoring.rollouts.verdicts import Verdict
from tests.services.monitoring.rollout_simulation import CANARY, START, added, release_of

EDGES = (0.1, 0.2)
STAGE_S, DEADLINE_S = 20.0, 300.0


class RolloutMachine(RuleBasedStateMachine):
    """Two routers count, their ticks are lost, late or repeated; analysers die; people pause, freeze and change the release."""

    @initialize(
        ladder=st.sampled_from([(0.01, 0.05, 0.25, 1.0), (0.5, 1.0), (1.0,)]),
        otherwise=st.sampled_from(["pause", "promote", "roll_back"]),
        slow=st.sampled_from([Guard(), Guard(slow_ms=100)]),
    )
    def start(
        self, ladder: tuple[float, ...], otherwise: Literal["pause", "promote", "roll_back"], slow: Guard
    ) -> None:
        guards: dict[GuardName, Guard] = {"errors": Guard(), "slow": slow}
        rollout = Rollout(
            arm=CANARY,
            ladder=ladder,
            guards=guards,
            otherwise=otherwise,
            stage_s=STAGE_S,
            deadline_s=DEADLINE_S,
        )
        first = release_of(rollout)
        self.original = first.live
        self.candidate = first.arms[CANARY]
        decision = begin(first)
        assert decision is not None
        self.release = self.following(first, decision)
        self.now = START
        self.frozen = False
        self.counted: dict[tuple[str, int], dict[str, ArmCounts]] = {}
        self.sent: list[Tick] = []
        self.taken: list[Tick] = []
        self.epochs = {"a": 0, "b": 0}
        self.evidence = Evidence(self.release, EDGES, Objectives(), self.now)
        self.changed_at = self.now

    def following(self, release: Release, decision: Decision) -> Release:
        found = next_release(release, decision, datetime.fromtimestamp(START, UTC))
        assert found is not None
        return found

    @property
    def state(self) -> RolloutState:
        return self.release.rollout.state

    @rule(
        router=st.sampled_from("ab"),
        rows=st.integers(0, 3000),
        errors=st.sampled_from([0, 0, 1, 5]),
        slow=st.sampled_from([0, 10]),
        canary_bad=st.sampled_from([0.0, 0.0, 0.0, 0.5]),
        arrives=st.sampled_from(["now", "now", "lost", "twice"]),
    )
    def answer(self, router: str, rows: int, errors: int, slow: int, canary_bad: float, arrives: str) -> None:
        canary = int(rows * self.release.assign.weights.get(CANARY, 0.0))
        more = {
            LIVE: counts(rows - canary, errors, slow),
            CANARY: counts(canary, int(canary * canary_bad), 0),
        }
        sums = self.counted.setdefault((f"{router}{self.epochs[router]}", self.release.number), {})
        for arm, figures in more.items():
            sums[arm] = added(sums.get(arm, ArmCounts()), figures)
        tick = Tick(f"{router}{self.epochs[router]}", self.release.number, dict(sums))
        self.sent.append(tick)
        self.look([] if arrives == "lost" else [tick] * (2 if arrives == "twice" else 1))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def an_old_tick_arrives(self, data: st.DataObject) -> None:
        self.look([data.draw(st.sampled_from(self.sent))])

    @rule(router=st.sampled_from("ab"))
    def a_router_restarts(self, router: str) -> None:
        self.epochs[router] += 1

    @rule(seconds=st.sampled_from([-5.0, 1.0, 7.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.look([])

    @precondition(lambda self: self.state in (RolloutState.RUNNING, RolloutState.PAUSED))
    @rule()
    def another_analyser_takes_over(self) -> None:
        saved, decision = json.loads(json.dumps(self.evidence.to_json(), allow_nan=False)), self.decide()
        self.evidence = Evidence(self.release, EDGES, Objectives(), self.now)
        assert self.evidence.restore(saved)
        assert json.loads(json.dumps(self.evidence.to_json())) == saved
        assert self.decide() == decision

    @precondition(lambda self: self.state in (RolloutState.RUNNING, RolloutState.PAUSED))
    @rule()
    def evidence_is_lost(self) -> None:
        self.evidence = Evidence(self.release, EDGES, Objectives(), self.now)
        self.taken.clear()
        self.changed_at = self.now
        self.look([])
        # What it restarts with is no proof.
        assert self.decide().verdict == Verdict.NOT_ENOUGH_DATA

    @rule(frozen=st.booleans())
    def freeze(self, frozen: bool) -> None:
        self.frozen = frozen

    @precondition(lambda self: self.state in (RolloutState.RUNNING, RolloutState.PAUSED))
    @rule(state=st.sampled_from(["paused", "running"]))
    def a_person_pauses_or_resumes(self, state: str) -> None:
        rollout = self.release.rollout.model_dump(mode="json") | {"state": state}
        self.release = self.release.next("person", "because", rollout=rollout)

    @precondition(lambda self: self.state in (RolloutState.RUNNING, RolloutState.PAUSED))
    @rule()
    def act(self) -> None:
        decision = self.decide()
        before = self.release
        if self.frozen or self.state == RolloutState.PAUSED:
            assert decision.action == Action.HOLD
        if decision.action == Action.HOLD:
            assert next_release(before, decision, datetime.fromtimestamp(self.now, UTC)) is None
            return
        self.release = self.following(before, decision)
        if decision.action == Action.STEP:
            assert before.rollout.step + 1 == self.release.rollout.step
            assert self.evidence.looked - self.changed_at >= STAGE_S
            assert self.evidence.guards["errors"].canary.rows > 0
        if decision.action == Action.PROMOTE and decision.verdict != Verdict.PROVEN_FINE:
            assert before.rollout.otherwise == "promote"
            assert self.now - START >= DEADLINE_S
        self.changed_at = self.evidence.looked
        self.look([])

    def decide(self) -> Decision:
        return decide(self.release, self.evidence, Objectives(), self.now, frozen=self.frozen)

    def look(self, ticks: list[Tick]) -> None:
        if self.state in (RolloutState.RUNNING, RolloutState.PAUSED):
            self.taken += [t for t in ticks if t.release >= self.release.rollout.since]
            self.evidence.look(self.release, ticks, self.now)

    @invariant()
    def nothing_counts_twice(self) -> None:
        """The evidence has, of each source, the newest of what arrived."""
        newest: dict[tuple[str, int], ArmCounts] = {}
        for tick in self.taken:
            known = newest.get((tick.source, tick.release), ArmCounts())
            newest[tick.source, tick.release] = max(known, tick.arms[CANARY], key=lambda c: c.rows)
        if hasattr(self, "evidence"):
            assert self.evidence.guards["errors"].canary.rows <= sum(c.rows for c in newest.values())
            assert self.evidence.guards["errors"].canary.bad <= sum(c.errors for c in newest.values())

    @invariant()
    def weights_are_those_of_the_state(self) -> None:
        if not hasattr(self, "release"):
            return
        weights, rollout = self.release.assign.weights, self.release.rollout
        if rollout.state in (RolloutState.RUNNING, RolloutState.PAUSED):
            assert abs(weights[CANARY] - rollout.ladder[rollout.step]) < 1e-9
            # The old arm is there, so that going back is possible at any weight.
            assert self.release.live == self.original
        if rollout.state == RolloutState.ROLLED_BACK:
            assert weights == {LIVE: 1.0, CANARY: 0.0}
            assert self.release.live == self.original
        if rollout.state == RolloutState.PROMOTED:
            assert weights == {LIVE: 1.0, PREVIOUS: 0.0}
            assert (self.release.live, self.release.arms[PREVIOUS]) == (self.candidate, self.original)


def counts(rows: int, errors: int, slow: int) -> ArmCounts:
    slow = min(slow, rows)
    return ArmCounts(rows, min(errors, rows), (rows - slow, slow, 0))


TestRollout = RolloutMachine.TestCase
TestRollout.settings = settings(stateful_step_count=30, deadline=None)
