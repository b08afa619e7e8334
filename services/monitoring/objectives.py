"""What the arms of a release promise, and how much of the error budget is left, as the analyser takes it."""

from __future__ import annotations

import math
from collections.abc import Callable

from headrace.pipeline import DocumentError, Pipeline, parse
from headrace.pipeline.types import Scalar
from headrace.releases import Release, ReleaseStore
from services.monitoring.guards.answers import Ends
from services.monitoring.guards.guard import Objectives
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
        self._known: dict[str, Pipeline | None] = {}

    def __call__(self, release: Release) -> Objectives:
        """Raises OSError: the store can't be reached."""
        live = self._document(release.pipeline, release.live.revision)
        ranges, segments = {}, {}
        if release.rollout is not None and release.rollout.arm in release.arms:
            new = self._document(release.pipeline, release.arms[release.rollout.arm].revision)
            ranges, segments = _ranges(new), _segments(new)
        promised = live.objectives if live else None
        if promised is None:
            return Objectives(None, {}, ranges, segments)
        slow_ms = float(promised.latency.ms) if promised.latency else None
        budget = promised.error_budget
        left = None if budget is None else self._left(release.pipeline, budget, promised.window_us * _MICRO)
        return Objectives(slow_ms, {} if left is None else {"errors": left}, ranges, segments)

    def _document(self, pipeline: str, revision: str) -> Pipeline | None:
        if revision not in self._known:
            text = self._store.document(pipeline, revision)
            try:
                found = parse(text, pipeline) if text is not None else None
            except DocumentError:
                found = None  # the router says so
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[revision] = found
        return self._known[revision]

    def _left(self, pipeline: str, budget: float, window_s: float) -> float | None:
        passed = self._clock() - self._began
        counted = self._ticks.snapshot(pipeline)
        arms = [*counted.arms.values(), *counted.by_rule.values()]
        rows = sum(figures.rows for figures in arms)
        if passed <= 0 or not rows:
            return None
        errors = sum(figures.errors for figures in arms)
        return max(budget * rows / passed * window_s - errors, 0.0)


def _ranges(document: Pipeline | None) -> dict[str, Ends]:
    declared = {o.name: o.range for o in document.outputs if o.range} if document else {}
    return {
        name: (-math.inf if low is None else low, math.inf if high is None else high)
        for name, (low, high) in declared.items()
    }


def _segments(document: Pipeline | None) -> dict[str, tuple[Scalar, ...]]:
    inputs = {field.name: field.choices or () for field in document.inputs} if document else {}
    return {name: inputs[name] for name in document.segments} if document else {}
