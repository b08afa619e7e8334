"""Tells when what is live is wrong more often than what was live before it: a gauge for the alert, a line in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge

from headrace.analysis import Count
from headrace.releases import Release
from services.monitoring.outcomes.records import Judged
from services.monitoring.outcomes.succession import Succession, succession
from services.monitoring.ports import Log


class SuccessionMetrics:
    """Labels are pipelines with a release."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._worse = Gauge(
            "headrace_outcomes_worse_than_before",
            "1 if outcomes say that what is live is wrong more often than what was live before it.",
            ("pipeline",),
            registry=registry,
        )

    def told(self, pipeline: str, worse: bool) -> None:
        """The newest look."""
        self._worse.labels(pipeline).set(int(worse))

    def gone(self, pipeline: str) -> None:
        """The pipeline has no release any more."""
        self._worse.remove(pipeline)


class SuccessionWatch:
    """One look per pipeline at a time; in one thread."""

    def __init__(self, metrics: SuccessionMetrics, log: Log) -> None:
        self._metrics, self._log = metrics, log
        self._newest: dict[str, Succession] = {}
        self._worse: set[str] = set()

    def look(
        self, pipeline: str, history: Sequence[Release], judged: Mapping[tuple[int, str], Judged]
    ) -> None:
        """`history`: its releases, newest first; none: it is forgotten."""
        if not history:
            self._forget(pipeline)
            return
        found = self._newest[pipeline] = succession(history, judged)
        worse = found.worse()
        self._metrics.told(pipeline, worse)
        if worse and pipeline not in self._worse:
            self._worse.add(pipeline)
            self._log.warning(
                "what is live is wrong more often than what was live before it",
                pipeline=pipeline,
                since_release=found.release,
                now=_told(found.now),
                before=_told(found.before),
            )
        elif not worse and pipeline in self._worse:
            self._worse.discard(pipeline)
            self._log.info("what is live is not worse than what was live before it", pipeline=pipeline)

    def of(self, pipeline: str) -> Succession | None:
        """The newest look; None: there was none."""
        return self._newest.get(pipeline)

    def _forget(self, pipeline: str) -> None:
        if self._newest.pop(pipeline, None) is not None:
            self._worse.discard(pipeline)
            self._metrics.gone(pipeline)


def _told(count: Count) -> str:
    return f"{count.bad} of {count.rows}"
