"""Deployments of services as metrics, from their record: how many, and how they ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.hop.definition import Runtime
from headrace.state.deployments import Deployment, Result, read
from services.monitoring.ports import Log


class DeploymentMetrics(Collector):
    """Reads the chain in `path` again when it has grown.

    Each process that has the file tells the same, so queries over several take the maximum.
    """

    def __init__(self, path: Path, log: Log) -> None:
        self._path, self._log = path, log
        self._seen: tuple[int, int] | None = None
        self._found: Sequence[Deployment] = ()
        self._damaged = False

    def collect(self) -> Iterator[Metric]:
        """Called for each scrape, on a thread of its own."""
        self._follow()
        ended = CounterMetricFamily(
            "headrace_deployments", "Deployments of services that ended.", labels=["result"]
        )
        for result in (Result.SUCCEEDED, Result.ROLLED_BACK, Result.FAILED):
            ended.add_metric([str(result)], sum(d.result is result for d in self._found))
        yield ended
        yield GaugeMetricFamily(
            "headrace_deployments_unreadable",
            "1 while their record can't be read.",
            value=float(self._damaged),
        )

    def _follow(self) -> None:
        try:
            about = self._path.stat()
            now = about.st_size, about.st_mtime_ns
            if now == self._seen:
                return
            self._found, self._damaged, self._seen = read(self._path), False, now
        except FileNotFoundError:
            self._found, self._damaged, self._seen = (), False, None
        except (ValueError, OSError) as error:
            # What was read last is told on.
            if not self._damaged:
                self._log.error("the record of deployments can't be read", error=str(error))
            self._damaged = True


def tell_deployments(path: Path | None, runtime: Runtime) -> None:
    """Has this process's metrics tell of deployments, if their record is here."""
    if path is not None:
        telemetry = runtime.telemetry
        telemetry.registry.register(DeploymentMetrics(path, telemetry.log))
