"""All evidence on one rollout. It can be saved and continued by another process: counts are cumulative, so none counts twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.analysis import Count, SampleRatio, SlowThreshold
from headrace.releases.document import LIVE, GuardName, Release, Rollout, digest
from headrace.releases.ladder import canary_share
from services.monitoring.rollouts.counts import ArmCounts, Streams, Tick
from services.monitoring.rollouts.guard_evidence import GuardEvidence

_FORMAT = 2
# Weights of so many releases are remembered: routers may still report counts of the last ones.
_RELEASES = 20


@dataclass(frozen=True, slots=True)
class Objectives:
    """What the pipeline promises. `slow_ms`: its latency objective; `budgets`: rows that may still be bad, by guard."""

    slow_ms: float | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)


class Evidence:
    """Evidence on the rollout of one release document, from ticks of the releases from `since` on.

    `edges_s`: upper edges of the latency buckets in seconds.
    """

    def __init__(
        self, release: Release, edges_s: Sequence[float], objectives: Objectives, now: float
    ) -> None:
        rollout = _rollout(release)
        self.key = key(release)
        self.since = rollout.since
        self._arm = rollout.arm
        self._deadline_s = rollout.deadline_s
        alpha = rollout.alpha / len(rollout.guards) if rollout.guards else rollout.alpha
        self.guards: dict[GuardName, GuardEvidence] = {
            name: GuardEvidence(guard.margins(name), alpha, rollout.fine_alpha, len(rollout.ladder))
            for name, guard in rollout.guards.items()
        }
        self.sample_ratio = SampleRatio()
        self.streams = Streams()
        self.rows_per_s = 0.0
        self.began = self.looked = now
        # When counts last came, when the present weight began, and rows since then.
        self.heard: float | None = None
        self.step_began = now
        self.step_rows = 0
        self.share: float | None = None
        self._weights: dict[int, dict[str, float]] = {}
        self._by_unit = False
        slow = rollout.guards.get("slow")
        promised_ms = (slow and slow.slow_ms) or objectives.slow_ms
        self.slow_threshold = SlowThreshold(edges_s, promised_ms / 1000 if promised_ms else None)

    def look(self, release: Release, ticks: Iterable[Tick], now: float) -> None:
        """Takes what is live and all ticks that there are. `now`: seconds; a clock that goes back counts as standing."""
        self._take_release(release, now)
        passed = max(now - self.looked, 0.0)
        self.looked = max(now, self.looked)
        for guard in self.guards.values():
            guard.pass_time(passed / self._deadline_s)
        self.slow_threshold.pass_time(passed)
        ticks = list(ticks)
        # Rows of one request, of one key or of one batch are no independent cases. So what chance divided is compared and not
        # rows, if the collector tells it.
        self._by_unit = any(tick.unit == "drawn" for tick in ticks)
        live_times: list[Sequence[int]] = []
        rows = sum(self._take(tick, live_times) for tick in ticks)
        for times in live_times:
            self.slow_threshold.learn(times)
        if rows:
            self.heard = self.looked
            self.step_rows += rows
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

    def _take(self, tick: Tick, live_times: list[Sequence[int]]) -> int:
        """Returns how many rows were new. Adds the new answers of the live arm, by latency, to `live_times`."""
        weights = self._weights.get(tick.release)
        if tick.release < self.since:
            if tick.unit == "row" and self.slow_threshold.bucket is None:
                self.slow_threshold.learn(tick.arms.get(LIVE, ArmCounts()).latency)
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
        share = canary_share(weights, self._arm)
        self._count("wrong", share, Count(live.labelled, live.wrong), Count(canary.labelled, canary.wrong))
        if (tick.unit == "drawn") == self._by_unit:
            self._count("errors", share, Count(live.rows, live.errors), Count(canary.rows, canary.errors))
            if self.slow_threshold.bucket is not None:
                self._count("slow", share, self._slow(live, share), self._slow(canary, share))
            live_times.append(live.latency)
        return live.rows + canary.rows if tick.unit == "row" else 0

    def _count(self, name: GuardName, share: float, live: Count, canary: Count) -> None:
        guard = self.guards.get(name)
        if guard and (live.rows or canary.rows):
            guard.observe(share, live, canary)

    def _slow(self, counts: ArmCounts, share: float) -> Count:
        slow = self.slow_threshold.slow(counts.latency, at_full_weight=share == 1)
        return Count(sum(counts.latency), slow)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `restored`."""
        return {
            "format": _FORMAT,
            "key": self.key,
            "guards": {name: guard.to_json() for name, guard in self.guards.items()},
            "streams": self.streams.to_json(),
            "sample_ratio": {"counts": self.sample_ratio.counts, "log_es": self.sample_ratio.log_es},
            "times": [self.began, self.looked, self.heard, self.step_began],
            "step_rows": self.step_rows,
            "share": self.share,
            "weights": [[number, weights] for number, weights in self._weights.items()],
            "slow": [self.slow_threshold.bucket, list(self.slow_threshold.recent)],
        }

    def restore(self, values: Mapping[str, Any]) -> bool:
        """Continues from values of `to_json`; False: they are of another rollout or unreadable; then drop this object."""
        try:
            if (
                values["format"] != _FORMAT
                or values["key"] != self.key
                or values["guards"].keys() != self.guards.keys()
            ):
                return False
            self._restore(values)
        except (KeyError, TypeError, ValueError, AttributeError):
            return False
        return True

    def _restore(self, values: Mapping[str, Any]) -> None:
        for name, guard in self.guards.items():
            guard.restore(values["guards"][name])
        ratio = values["sample_ratio"]
        streams = Streams.from_json(values["streams"])
        weights = {int(number): dict(w) for number, w in values["weights"]}
        began, looked, heard, step_began = values["times"]
        self.sample_ratio = SampleRatio(dict(ratio["counts"]), dict(ratio["log_es"]))
        self.streams, self._weights = streams, weights
        self.began, self.looked, self.step_began = float(began), float(looked), float(step_began)
        self.heard = None if heard is None else float(heard)
        self.step_rows, self.share = int(values["step_rows"]), values["share"]
        bucket, recent = values["slow"]
        self.slow_threshold.bucket = None if bucket is None else int(bucket)
        self.slow_threshold.recent = tuple(float(n) for n in recent)


def key(release: Release) -> str:
    """Identity of a rollout: evidence of one must never serve another, nor a rollout whose rules were changed."""
    rollout = _rollout(release)
    arms = [release.arms[arm].model_dump(mode="json") for arm in (LIVE, rollout.arm)]
    rules = {name: [*guard.margins(name), guard.slow_ms] for name, guard in rollout.guards.items()}
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
