"""Answers that are slower than what is promised, or than those of the live arm."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.analysis import Count, SlowThreshold
from services.monitoring.guards.guard import Increment, Setting
from services.monitoring.guards.rates import RateGuard
from services.monitoring.rollouts.counts import ArmCounts


class Slow(RateGuard):
    """By the histograms of the routers' ticks. The threshold may follow the live arm: see SlowThreshold."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._threshold = SlowThreshold(setting.edges_s, setting.slow_s)
        self._live_times: list[Sequence[int]] = []

    @property
    def slow_over_s(self) -> float | None:
        """See RateGuard."""
        return self._threshold.seconds

    def pass_time(self, share: float) -> None:
        """See Guard."""
        super().pass_time(share)
        self._threshold.pass_time(share * self.setting.deadline_s)

    def before(self, live: ArmCounts) -> None:
        """See Guard."""
        if self._threshold.bucket is None:
            self._threshold.learn(live.latency)

    def tick(self, more: Increment) -> None:
        """See Guard."""
        if not more.drawn:
            return
        if self._threshold.bucket is not None:
            self.observe(more.share, *(self._slow(of, more.share) for of in (more.live, more.canary)))
        self._live_times.append(more.live.latency)

    def end_round(self) -> None:
        """Learns what the live arm did in this look, for the next one."""
        for times in self._live_times:
            self._threshold.learn(times)
        self._live_times.clear()

    def _slow(self, counts: ArmCounts, share: float) -> Count:
        slow = self._threshold.slow(counts.latency, at_full_weight=share == 1)
        return Count(sum(counts.latency), slow)


make = Slow
