"""Seeded rollouts without sockets and without waiting: routers are simulated; evidence, judgement and ladder are real."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from headrace.pipeline import content_hash
from headrace.releases import Arm, Assignment, Release, Rollout
from headrace.releases.document import LIVE
from headrace.releases.ladder import Action, Report
from headrace.releases.of_records import RecordReleases
from services.control.ladder.changes import next_release
from services.control.ladder.machine import decide
from services.monitoring.guards.guard import Finding, Objectives, Verdict
from services.monitoring.guards.rates import RateGuard
from services.monitoring.rollouts.counts import ArmCounts, Tick
from services.monitoring.rollouts.evidence import Evidence
from services.monitoring.rollouts.judgement import judge
from tests.released import keep_document
from tests.services.monitoring.rollout_answers import Answering, Outputs

# Upper edges in seconds, each 12 % above the one before (1 ms to 9 s).
EDGES = tuple(0.001 * 1.12**i for i in range(81))
CANARY = "candidate"
START = datetime(2026, 11, 26, tzinfo=UTC).timestamp()
LIVE_ERRORS = 0.001
# Of the live arm and the canary, by revision; nobody reads them.
DOCUMENTS = {str(content_hash(text)): text for text in ("pipeline: p\n", "pipeline: p\nversion: 2\n")}


@dataclass
class Traffic:
    """What the clients and the arms do. Times in seconds; `wobble`: how much load and error rates swing."""

    rows_per_s: int = 300
    # Rows of a request share arm, time and fate.
    rows_per_request: int = 1
    wobble: float = 0.5
    errors: float = LIVE_ERRORS
    canary_errors: float = LIVE_ERRORS
    median_s: float = 0.02
    canary_extra_s: float = 0.0
    # From the second `busy[0]` to `busy[1]` of each minute the machine is so slow that all answers take `busy[2]` times as long.
    busy: tuple[int, int, float] = (0, 0, 1.0)
    wrong: float | None = None
    canary_wrong: float = 0.0
    # Sticky assignment over so many keys, of which some always fail.
    keys: int = 0
    failing: int = 0
    outputs: Outputs = field(default_factory=Outputs)


def keep_documents(store: RecordReleases, pipeline: str) -> None:
    for revision, text in DOCUMENTS.items():
        keep_document(store, pipeline, revision, text)


def release_of(rollout: Rollout, *, sticky: bool = False) -> Release:
    arms = {name: Arm(version=1, revision=r) for name, r in zip((LIVE, CANARY), DOCUMENTS, strict=True)}
    assign = Assignment(weights={LIVE: 1.0, CANARY: 0.0}, by="key" if sticky else None, salt="s")
    return Release(pipeline="p", number=7, author="test", arms=arms, assign=assign, rollout=rollout)


@dataclass
class Router:
    """Counts as a router does: cumulative, by release and arm."""

    traffic: Traffic
    seed: int
    source: str = "router-1"
    counts: dict[tuple[int, str], list] = field(default_factory=dict)
    by_key: dict[tuple[int, str], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        t = self.traffic
        self.place = self.rng.random(t.keys)
        self.failing = np.zeros(t.keys, bool)
        self.failing[self.rng.choice(t.keys, t.failing, replace=False) if t.keys else []] = True
        self.known_bad = np.zeros(t.keys, bool)
        self.met = np.zeros(t.keys, bool)
        extra = {LIVE: 0.0, CANARY: t.canary_extra_s}
        self.answering = Answering(t.outputs, self.seed, t.keys)
        self.calm = {arm: _shares(t.median_s, more) for arm, more in extra.items()}
        self.slowed = {arm: _shares(t.median_s * t.busy[2], more) for arm, more in extra.items()}

    def second(self, release: Release, at: int) -> list[Tick]:
        """Answers the requests of one second and returns all that was counted."""
        t, share = self.traffic, release.assign.weights.get(CANARY, 0.0)
        swing = 1 + t.wobble * math.sin(at / 7)
        latency = self.slowed if t.busy[0] <= at % 60 < t.busy[1] else self.calm
        requests = self.rng.poisson(t.rows_per_s / t.rows_per_request * swing)
        rates = {LIVE: min(t.errors * swing, 1.0), CANARY: min(t.canary_errors * swing, 1.0)}
        keys: dict[str, np.ndarray] = {}
        if t.keys:
            bad_by_arm, keys = self._sticky(release.number, share, requests, rates)
            by_arm = {arm: len(of_arm) for arm, of_arm in keys.items()}
        else:
            canary = int(self.rng.binomial(requests, share))
            by_arm = {LIVE: requests - canary, CANARY: canary}
            bad_by_arm = {arm: int(self.rng.binomial(n, rates[arm])) for arm, n in by_arm.items()}
        for arm, n in by_arm.items():
            extra_s = t.canary_extra_s if arm == CANARY else 0.0
            self.answering.answer(release.number, arm, n, keys.get(arm), rates[arm], extra_s, START + at)
            sums = self.counts.setdefault((release.number, arm), [0, 0, np.zeros(len(EDGES) + 1, int), 0, 0])
            sums[0] += n
            sums[1] += bad_by_arm[arm]
            sums[2] = sums[2] + self.rng.multinomial(n, latency[arm])
            if t.wrong is not None:
                sums[3] += n
                sums[4] += int(self.rng.binomial(n, t.wrong if arm == LIVE else t.canary_wrong))
        return self.ticks()

    def ticks(self) -> list[Tick]:
        """By row and by drawn unit, of the last two releases."""
        found, each = [], self.traffic.rows_per_request
        for number in sorted({number for number, _ in self.counts})[-2:]:
            rows, drawn = {}, {}
            for (n, arm), (requests, bad, latency, labelled, wrong) in self.counts.items():
                if n != number:
                    continue
                answers = tuple(latency.tolist())
                rows[arm] = ArmCounts(
                    each * requests, each * bad, tuple(each * a for a in answers), labelled, wrong
                )
                fresh, fresh_bad, new = self.by_key.get((n, arm), (requests, bad, requests))
                drawn[arm] = ArmCounts(fresh, fresh_bad, answers, assigned=new)
            found += [Tick(self.source, number, rows), Tick(self.source, number, drawn, "drawn")]
        return found

    def _sticky(
        self, number: int, share: float, rows: int, rates: dict[str, float]
    ) -> tuple[dict[str, int], dict[str, np.ndarray]]:
        keys = self.rng.integers(0, self.traffic.keys, rows)
        canary = self.place[keys] < share
        bad = self.failing[keys] | (self.rng.random(rows) < np.where(canary, rates[CANARY], rates[LIVE]))
        for arm, chosen in ((LIVE, ~canary), (CANARY, canary)):
            mine = keys[chosen]
            sums = self.by_key.setdefault((number, arm), [0, 0, 0])
            fresh = ~self.known_bad[mine]
            sums[0] += int(fresh.sum())
            sums[1] += len(np.unique(mine[fresh & bad[chosen]]))
            sums[2] += len(np.unique(mine[~self.met[mine]]))
        self.known_bad[keys[bad]] = True
        self.met[keys] = True
        errors = {LIVE: int((bad & ~canary).sum()), CANARY: int((bad & canary).sum())}
        return errors, {LIVE: keys[~canary], CANARY: keys[canary]}


def _shares(median_s: float, extra_s: float) -> np.ndarray:
    """Shares of the latency buckets: lognormal with σ = 0.5, plus a constant."""
    below = [
        0.5 * (1 + math.erf(math.log((edge - extra_s) / median_s) / 0.5 / math.sqrt(2)))
        if edge > extra_s
        else 0.0
        for edge in EDGES
    ]
    return np.diff([0.0, *below, 1.0])


@dataclass(frozen=True)
class Decided:
    """What judgement and ladder make of a rollout together. `following`: the next release; None: it stays."""

    action: Action
    verdict: Verdict
    weight: float
    reason: str
    guards: tuple[Finding, ...]
    following: Release | None


def decided(
    history: Sequence[Release],
    evidence: Evidence,
    now: float,
    objectives: Objectives | None = None,
) -> Decided:
    """`history`: newest first."""
    newest = history[0]
    found = judge(newest, evidence, objectives or Objectives())
    report = Report(
        "p",
        newest.number,
        found.verdict,
        found.reason,
        found.figures,
        found.weight,
        suspicion=found.suspicion,
    )
    decision = decide(history, now, report)
    following = next_release(newest, decision, datetime.fromtimestamp(now, UTC), found.figures)
    reason = f"{decision.reason}. {found.figures}"
    return Decided(decision.action, found.guards_say, decision.weight, reason, found.guards, following)


def errors_of(evidence: Evidence) -> RateGuard:
    """Its guard of errors."""
    guard = evidence.guards["errors"]
    assert isinstance(guard, RateGuard)
    return guard


def begun(release: Release) -> Release | None:
    """The release that control makes of it without a verdict, at START."""
    return next_release(release, decide([release], START), datetime.fromtimestamp(START, UTC))


@dataclass(frozen=True)
class Ran:
    """How a rollout ended. `seconds`: since its begin; `history`: its decisions but the holds."""

    end: Action
    seconds: int
    decision: Decided
    history: tuple[tuple[int, Action, float], ...]


def run(traffic: Traffic, seed: int, rollout: Rollout | None = None, most_s: int = 1800) -> Ran:
    """One rollout, looked at each second, until it ends."""
    release = release_of(rollout or Rollout(arm=CANARY), sticky=bool(traffic.keys))
    router = Router(traffic, seed)
    router.second(release, 0)  # the live arm served before
    history: list[Release] = [_made(begun(release))]
    evidence = Evidence(history[0], EDGES, Objectives(), START)
    changes: list[tuple[int, Action, float]] = []
    found: Decided | None = None
    for second in range(1, most_s + 1):
        now, ticks = START + second, router.second(history[0], second)
        evidence.update(history[0], ticks, now, router.answering.facts(history[0], CANARY, now))
        found = decided(history, evidence, START + second)
        if found.action == Action.HOLD:
            continue
        changes.append((second, found.action, found.weight))
        if found.action != Action.STEP:
            return Ran(found.action, second, found, tuple(changes))
        history.insert(0, _made(found.following))
    assert found is not None
    return Ran(Action.HOLD, most_s, found, tuple(changes))


def _made(release: Release | None) -> Release:
    assert release is not None
    return release
