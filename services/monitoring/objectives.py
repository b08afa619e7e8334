"""What the live arm of a release promises, and how much of its error budget is left, as the analyser takes it."""

from __future__ import annotations

from collections.abc import Callable

from headrace.pipeline import DocumentError, parse
from headrace.pipeline import Objectives as Promised
from headrace.releases import Release, ReleaseStore
from services.monitoring.rollouts.evidence import Objectives
from services.monitoring.ticks import Ticks

_MICRO = 1e-6
# Documents whose objectives are remembered.
_KEPT = 256


class ReleaseObjectives:
    """`clock`: monotonic seconds. Blocks: call it on a thread.

    The budget of errors left is (1 − availability) × the rows of one window at the rate seen since this process began, less the
    errors seen since then: an error that nobody here has seen is not counted against the rollout.
    """

    def __init__(self, store: ReleaseStore, ticks: Ticks, clock: Callable[[], float]) -> None:
        self._store = store
        self._ticks = ticks
        self._clock = clock
        self._began = clock()
        self._known: dict[str, Promised | None] = {}

    def __call__(self, release: Release) -> Objectives:
        """Raises OSError: the store can't be reached."""
        promised = self._promised(release)
        if promised is None:
            return Objectives()
        slow_ms = float(promised.latency.ms) if promised.latency else None
        budget = promised.error_budget
        left = None if budget is None else self._left(release.pipeline, budget, promised.window_us * _MICRO)
        return Objectives(slow_ms, {} if left is None else {"errors": left})

    def _promised(self, release: Release) -> Promised | None:
        revision = release.live.revision
        if revision not in self._known:
            text = self._store.document(release.pipeline, revision)
            try:
                found = parse(text, release.pipeline).objectives if text is not None else None
            except DocumentError:
                found = None  # the router says so
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[revision] = found
        return self._known[revision]

    def _left(self, pipeline: str, budget: float, window_s: float) -> float | None:
        passed = self._clock() - self._began
        arms = self._ticks.snapshot(pipeline).arms.values()
        rows = sum(figures.rows for figures in arms)
        if passed <= 0 or not rows:
            return None
        errors = sum(figures.errors for figures in arms)
        return max(budget * rows / passed * window_s - errors, 0.0)
