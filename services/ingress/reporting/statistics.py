"""What the protocol's ModelStatistics reports: counts and times of each pipeline since the process began."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.columns import Timing
from services.ingress.inference import InferenceResult, InferenceShare


@dataclass(slots=True)
class PipelineCounts:
    """Counts of one pipeline; times are sums in seconds. `executions`: each batch of the router counts as 1, divided among the
    requests in it."""

    successes: int = 0
    success_s: float = 0.0
    failures: int = 0
    fail_s: float = 0.0
    # Parts of the time of the successes.
    queue_s: float = 0.0
    compute_input_s: float = 0.0
    compute_infer_s: float = 0.0
    compute_output_s: float = 0.0
    rows: int = 0
    executions: float = 0.0
    last_ms: int = 0


class Statistics:
    """Counts by pipeline. `clock`: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pipelines: dict[str, PipelineCounts] = {}
        # Cache: the timings seen last (requests of one batch share them), their largest batch, and their end (µs).
        self._timings: Sequence[Timing] = ()
        self._seen = 0, 0

    def of(self, pipeline: str) -> PipelineCounts:
        """The counts of a pipeline (known names only, so the table is bounded)."""
        found = self._pipelines.get(pipeline)
        if found is None:
            found = self._pipelines[pipeline] = PipelineCounts()
        return found

    def success(self, answer: InferenceResult | InferenceShare, total_s: float) -> None:
        """A request that was answered after `total_s`."""
        counts = self.of(answer.entry.pipeline.name)
        rows = answer.rows
        most, inside_us = self._look(answer.timings)
        start_s, router_s, inside_s = answer.router_start_s, answer.router_s, inside_us / 1e6
        # Time outside the router's stages was spent waiting for the previous batch and in transport.
        queue_s, output_s = router_s - inside_s, total_s - start_s - router_s
        counts.successes += 1
        counts.success_s += total_s
        counts.queue_s += queue_s if queue_s > 0.0 else 0.0
        counts.compute_input_s += start_s
        counts.compute_infer_s += inside_s if queue_s > 0.0 else router_s
        counts.compute_output_s += output_s if output_s > 0.0 else 0.0
        counts.rows += rows
        counts.executions += rows / (most if most > rows else rows)
        counts.last_ms = int(self._clock() * 1000)

    def _look(self, timings: Sequence[Timing]) -> tuple[int, int]:
        if timings is not self._timings:
            most = max([t.row_count for t in timings], default=0)
            end = max([t.start_us + t.duration_us for t in timings], default=0)
            self._timings, self._seen = timings, (most, end)
        return self._seen

    def fail(self, pipeline: str, total_s: float) -> None:
        """A request for a known pipeline that failed."""
        counts = self.of(pipeline)
        counts.failures += 1
        counts.fail_s += total_s
