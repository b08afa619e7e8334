"""The evidence on a rollout: whatever arrives in whatever order, nothing counts twice, and nothing is proven by nothing."""

from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.pipeline.guards import GuardName
from headrace.releases import Guard, Release, Rollout
from headrace.releases.changes.basis import ACTIVE
from headrace.releases.document import LIVE
from headrace.releases.ladder import Action
from services.monitoring.guards.guard import Facts, Objectives, Verdict
from services.monitoring.rollouts.counts import ArmCounts, Tick
from services.monitoring.rollouts.evidence import Evidence
from tests.services.monitoring.rollout_answers import good_answers
from tests.services.monitoring.rollout_simulation import (
    CANARY,
    START,
    Decided,
    added,
    begun,
    decided,
    errors_of,
    release_of,
)

EDGES = (0.1, 0.2)
STAGE_S, DEADLINE_S = 20.0, 300.0


class RolloutMachine(RuleBasedStateMachine):
    """Two routers count, their ticks are lost, late or repeated; analysers die."""

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
        first = begun(release_of(rollout))
        assert first is not None
        self.history = [first]
        self.now = START
        self.counted: dict[tuple[str, int], dict[str, ArmCounts]] = {}
        self.sent: list[Tick] = []
        self.taken: list[Tick] = []
        self.epochs = {"a": 0, "b": 0}
        self.evidence = Evidence(self.release, EDGES, Objectives(), self.now)

    @property
    def release(self) -> Release:
        return self.history[0]

    @property
    def active(self) -> bool:
        return self.release.rollout.state in ACTIVE

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

    @precondition(lambda self: self.active)
    @rule()
    def evidence_is_lost(self) -> None:
        self.evidence = Evidence(self.release, EDGES, Objectives(), self.now)
        self.taken.clear()
        self.look([])
        # What it restarts with is no proof.
        assert self.decide().verdict == Verdict.NOT_ENOUGH_DATA

    @precondition(lambda self: self.active)
    @rule()
    def act(self) -> None:
        found = self.decide()
        if found.action == Action.STEP:
            assert errors_of(self.evidence).canary.rows > 0
        if found.action == Action.PROMOTE and found.verdict != Verdict.PROVEN_FINE:
            assert self.release.rollout.otherwise == "promote"
            assert self.now - START >= DEADLINE_S
        if found.following is not None:
            self.history.insert(0, found.following)
            self.look([])

    def decide(self) -> Decided:
        return decided(self.history, self.evidence, self.now)

    def look(self, ticks: list[Tick]) -> None:
        if self.active:
            self.taken += [t for t in ticks if t.release >= self.release.rollout.since]
            facts = good_answers(self.release.number) if ticks else Facts()
            self.evidence.look(self.release, ticks, self.now, facts)

    @invariant()
    def nothing_counts_twice(self) -> None:
        """The evidence has, of each source, the newest of what arrived."""
        newest: dict[tuple[str, int], ArmCounts] = {}
        for tick in self.taken:
            known = newest.get((tick.source, tick.release), ArmCounts())
            newest[tick.source, tick.release] = max(known, tick.arms[CANARY], key=lambda c: c.rows)
        if hasattr(self, "evidence"):
            assert errors_of(self.evidence).canary.rows <= sum(c.rows for c in newest.values())
            assert errors_of(self.evidence).canary.bad <= sum(c.errors for c in newest.values())


def counts(rows: int, errors: int, slow: int) -> ArmCounts:
    slow = min(slow, rows)
    return ArmCounts(rows, min(errors, rows), (rows - slow, slow, 0))


TestRollout = RolloutMachine.TestCase
TestRollout.settings = settings(stateful_step_count=30, deadline=None)
