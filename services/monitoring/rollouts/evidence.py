"""All evidence on one rollout. Another process has it again from cumulative counts, but for what only events tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace.analysis import SampleRatio
from headrace.pipeline.guards import judging
from headrace.releases.document import LIVE, Release, Rollout, digest
from headrace.releases.ladder import canary_share
from services.monitoring.guards.answers import Answers
from services.monitoring.guards.guard import Facts, Increment, Objectives
from services.monitoring.guards.registry import guards_of
from services.monitoring.rollouts.counts import ArmCounts, Streams, Tick

# Weights of so many releases are remembered: routers may still report counts of the last ones.
_RELEASES = 20
_NO_FACTS = Facts()


class Evidence:
    """Evidence on the rollout of one release document, from ticks of the releases from `since` on.

    `edges_s`: upper edges of the latency buckets in seconds; `history`: releases before this one, as far as they are known.
    """

    def __init__(
        self,
        release: Release,
        edges_s: Sequence[float],
        objectives: Objectives,
        now: float,
        history: Sequence[Release] = (),
    ) -> None:
        rollout = _rollout(release)
        self.key = key(release)
        self.since = rollout.since
        self._arm = rollout.arm
        self._deadline_s = rollout.deadline_s
        self.guards = guards_of(release, rollout, objectives, edges_s)
        self.sample_ratio = SampleRatio()
        self.streams = Streams()
        self.rows_per_s = 0.0
        self.began = self.looked = now
        # When counts last came, when the present weight began, and rows since then.
        self.heard: float | None = None
        self.step_began = now
        self.step_rows = 0
        # Rows of the rollout, and those of them whose answers were seen.
        self.rows = self.seen = 0
        self.share: float | None = None
        self._weights = {r.number: dict(r.assign.weights) for r in history if r.number >= self.since}
        self._by_unit = False

    def update(self, release: Release, ticks: Iterable[Tick], now: float, facts: Facts = _NO_FACTS) -> None:
        """Takes what is live and all ticks that there are. `now`: seconds; a clock that goes back counts as standing."""
        self._take_release(release, now)
        passed = max(now - self.looked, 0.0)
        self.looked = max(now, self.looked)
        for guard in self.guards.values():
            guard.pass_time(passed / self._deadline_s)
        ticks = list(ticks)
        # Rows of one request, of one key or of one batch are no independent cases. So what chance divided is compared and not
        # rows, if the collector tells it.
        self._by_unit = any(tick.unit == "drawn" for tick in ticks)
        rows = sum(self._add_tick(tick) for tick in ticks)
        self._add_answers(facts.answers)
        for guard in self.guards.values():
            guard.learn(facts)
            guard.end_round()
        if rows:
            self.heard = self.looked
            self.step_rows += rows
            self.rows += rows
        elapsed = self.looked - self.step_began
        if elapsed > 0:
            self.rows_per_s = self.step_rows / elapsed

    def _take_release(self, release: Release, now: float) -> None:
        self._weights[release.number] = dict(release.assign.weights)
        for old in sorted(self._weights)[:-_RELEASES]:
            del self._weights[old]
        self.streams.forget_before(min(self._weights))
        share = canary_share(release.assign.weights, self._arm)
        if share != self.share:
            self.share, self.step_began, self.step_rows = share, max(now, self.looked), 0
            for guard in self.guards.values():
                guard.begin_step()

    def _add_tick(self, tick: Tick) -> int:
        """Returns how many rows were new."""
        weights = self._weights.get(tick.release)
        if tick.release < self.since:
            for guard in self.guards.values() if tick.unit == "row" else ():
                guard.before(tick.arms.get(LIVE, ArmCounts()))
            return 0
        # Counts under a release that nobody told of: its weights are unknown, so nothing can be compared.
        more = self.streams.take(tick) if weights is not None else None
        if not more or weights is None:
            return 0
        if any(counts.assigned for counts in more.values()):
            # New keys are divided as the weights say; so are requests.
            phase = f"{tick.source}/{tick.release}/{tick.unit}"
            self.sample_ratio.observe(phase, {a: c.assigned for a, c in more.items() if c.assigned}, weights)
        live, canary = more.get(LIVE, ArmCounts()), more.get(self._arm, ArmCounts())
        drawn = (tick.unit == "drawn") == self._by_unit
        increment = Increment(canary_share(weights, self._arm), live, canary, drawn)
        for guard in self.guards.values():
            guard.tick(increment)
        return live.rows + canary.rows if tick.unit == "row" else 0

    def _add_answers(self, found: Mapping[tuple[int, str], Answers]) -> None:
        for number in sorted({number for number, _ in found} & self._weights.keys()):
            live, canary = (found.get((number, arm)) or Answers() for arm in (LIVE, self._arm))
            self.seen += live.rows + canary.rows
            for guard in self.guards.values():
                guard.answered(canary_share(self._weights[number], self._arm), live, canary)


def key(release: Release) -> str:
    """Identity of a rollout: evidence of one must never serve another, nor a rollout whose rules were changed."""
    rollout = _rollout(release)
    arms = [release.arms[arm].model_dump(mode="json") for arm in (LIVE, rollout.arm)]
    rules = {
        name: [*guard.margins(name), guard.slow_ms, guard.action]
        for name, guard in judging(rollout.guards).items()
    }
    levels = [rollout.alpha, rollout.fine_alpha, list(rollout.ladder), rollout.deadline_s]
    return digest(
        {
            "is": [release.pipeline, rollout.since, str(rollout.started), rollout.arm, arms],
            "rules": rules,
            "levels": levels,
        }
    )


def _rollout(release: Release) -> Rollout:
    if release.rollout is None:
        raise ValueError(f"release {release.number} of {release.pipeline} has no rollout")
    return release.rollout
