"""A drift monitor with a log and a webhook that tests can read."""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.drift import Baseline
from services.monitoring.drift.metrics import DriftMetrics
from services.monitoring.drift.monitor import DriftMonitor
from services.monitoring.drift.ports import Followed, Rows, Series
from services.monitoring.drift.retrain.delivery import Retraining
from services.monitoring.drift.retrain.metrics import RetrainMetrics
from services.monitoring.drift.settings import DriftSettings
from tests.services.monitoring.monitoring_outcomes import Log

BEGIN = 1_790_000_000.0
REVISION = "ab" * 32
LIVE = Series("flights", REVISION, "live")


class Told:
    """A webhook."""

    def __init__(self) -> None:
        self.events: list[Mapping[str, Any]] = []

    def tell(self, event: Mapping[str, object]) -> None:
        self.events.append(event)


class Watched:
    """All of it. `settings`: as in the service's file."""

    def __init__(self, **settings: Any) -> None:
        self.registry, self.log, self.told = CollectorRegistry(), Log(), Told()
        self.settings = DriftSettings.model_validate(settings)
        self.metrics = DriftMetrics(self.registry)
        self.retraining = Retraining(
            self.settings.retrain, self.told, RetrainMetrics(self.registry), self.log
        )
        self.monitor = DriftMonitor(self.settings, self.metrics, self.retraining, self.log)

    def follow(self, baseline: Baseline | None, series: Series = LIVE, since: int = 1) -> None:
        self.monitor.follow({series: Followed(baseline, since)})

    def look(
        self, columns: Mapping[str, Any], now: float, series: Series = LIVE, tenants: Sequence[str] = ()
    ) -> None:
        count = len(next(iter(columns.values()), ()))
        self.monitor.judge(series, Rows(columns, count, tenants), now)

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"headrace_{name}", labels)
