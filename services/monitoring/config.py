"""Settings of the monitoring service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.hop import config
from headrace.slo.settings import Webhooks
from services.monitoring.accuracy.settings import AccuracySettings
from services.monitoring.console.settings import ConsoleSettings
from services.monitoring.cost.settings import CostSettings
from services.monitoring.drift.settings import DriftSettings
from services.monitoring.events.settings import EventStorage
from services.monitoring.explanations.settings import ExplanationStorage


class Retention(config.Settings):
    """What of outcomes and predictions is kept. The oldest go first."""

    days: PositiveFloat = 30.0
    # Of each: outcomes, predictions of arms that outcomes compare, other predictions. One takes 100 to 200 bytes.
    max_rows: PositiveInt = 1_000_000


class AlertSettings(config.Settings):
    """Alerts that this service evaluates itself, wherever it reads processes for their cost."""

    # By severity, where to post what fires. None where Alertmanager does this.
    webhooks: Webhooks = Field(default_factory=dict)


class MonitoringConfig(config.ServiceSettings):
    """All settings of the monitoring service."""

    # The database `facts`: the path of a SQLite file, which this process has alone, or postgresql://USER@HOST/DATABASE, with
    # password_file=PATH and other options of libpq. Absent: a temporary file, and a restart forgets.
    database: str | None = Field(default=None, min_length=1)
    # Client of control, which has the releases. Absent: no rollout is judged.
    control: config.CalleeSettings | None = None
    # The record of deployments, whose figures are metrics. Absent: none is here.
    deployments: Path | None = None
    retention: Retention = Retention()
    # How accuracy is told from outcomes.
    accuracy: AccuracySettings = AccuracySettings()
    events: EventStorage = EventStorage()
    explanations: ExplanationStorage = ExplanationStorage()
    # How drift is told from what predictions got and answered.
    drift: DriftSettings = DriftSettings()
    # What predictions cost.
    cost: CostSettings = CostSettings()
    alerts: AlertSettings = AlertSettings()
    # A router that has not reported for so long has ended.
    silent_s: PositiveFloat = 60.0

    # The operator console: pages about what changed and whether it is safe. Absent: there is none.
    console: ConsoleSettings | None = None
