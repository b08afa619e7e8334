"""A drift monitor with a log that tests can read."""

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from headrace.drift import Baseline
from services.monitoring.drift.metrics import DriftMetrics
from services.monitoring.drift.monitor import DriftMonitor
from services.monitoring.drift.ports import Followed, Rows, Series
from services.monitoring.drift.retrain.delivery import Listener, Retraining
from services.monitoring.drift.retrain.metrics import RetrainMetrics
from services.monitoring.drift.settings import DriftSettings
from tests.services.monitoring.monitoring_outcomes import Log

BEGIN = 1_790_000_000.0
REVISION = "ab" * 32
LIVE = Series("flights", REVISION, "live")


class Watched:
    """All of it. `settings`: as in the service's file."""

    def __init__(self, webhook: Listener | None = None, **settings: Any) -> None:
        self.registry, self.log = CollectorRegistry(), Log()
        self.settings = DriftSettings.model_validate(settings)
        self.metrics = DriftMetrics(self.registry)
        self.retraining = Retraining(self.settings.retrain, webhook, RetrainMetrics(self.registry), self.log)
        self.monitor = DriftMonitor(self.settings, self.metrics, self.retraining, self.log)

    def follow(self, baseline: Baseline | None, series: Series = LIVE, since: int = 1) -> None:
        self.monitor.follow({series: Followed(baseline, since)})

    def look(
        self, columns: Mapping[str, Any], now: float, series: Series = LIVE, tenants: Sequence[str] = ()
    ) -> None:
        count = len(next(iter(columns.values()), ()))
        self.monitor.judge(series, Rows(columns, count, tenants), now)

    @property
    def due(self) -> list[dict[str, Any]]:
        """The retrainings that were triggered, as the log has them."""
        return self.log.of("a retraining is due")

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"headrace_{name}", labels)
