"""Where a game day takes place: a running home, its alerts, and what a fault may do there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.cli.gameday.undo import Undo
from headrace.cli.installation.layout import Layout
from headrace.cli.supervision import daemon
from headrace.slo import ALERTS, SloSettings
from headrace.slo.alert import FLOOR_SCRAPES
from headrace.slo.servers import AlertmanagerApi, PrometheusApi

_LOOK_EVERY_S = 0.25


class GameDayError(Exception):
    """A fault can't be begun, or what must come did not come; the text says what."""


@dataclass(slots=True)
class Stage:
    """`begun`, `mended`: monotonic seconds, 0.0 as long as it has not come to that. `patience_s`: for whatever is waited for."""

    layout: Layout
    settings: SloSettings
    undo: Undo
    patience_s: float
    begun: float = 0.0
    mended: float = 0.0
    _prometheus: PrometheusApi = field(init=False)
    _alertmanager: AlertmanagerApi = field(init=False)

    def __post_init__(self) -> None:
        self._prometheus = PrometheusApi(self.settings.prometheus)
        self._alertmanager = AlertmanagerApi(self.settings.alertmanager)

    def begin(self) -> None:
        """Now."""
        self.begun = time.monotonic()

    def mend(self) -> None:
        """Now: nothing is done any more, or all is undone."""
        self.mended = time.monotonic()

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Waits. Raises GameDayError if it does not come."""
        end = time.monotonic() + self.patience_s
        while not holds():
            if time.monotonic() > end:
                raise GameDayError(f"not within {self.patience_s:g} s: {what}")
            time.sleep(_LOOK_EVERY_S)

    def services(self) -> Mapping[str, Mapping[str, object]]:
        """What the supervisor knows of each process. Raises ControlError."""
        return dict(daemon.status(self.layout)["services"])

    def pid(self, service: str) -> int | None:
        """Of its process; None between two. Raises ControlError."""
        found = self.services().get(service, {}).get("pid")
        return found if isinstance(found, int) else None

    def ready(self, service: str) -> bool:
        """Raises ControlError."""
        return self.services().get(service, {}).get("state") == "ready"

    def value(self, expression: str) -> float:
        """The sum of an expression's samples in Prometheus. Raises ServerError."""
        return sum(sample.value for sample in self._prometheus.query(expression))

    def due(self, alert: str, labels: Mapping[str, str]) -> bool:
        """Whether the expression of an alert (not one of a promise) holds now. Raises ServerError."""
        [found] = [a for a in ALERTS if a.name == alert]
        floor_s = FLOOR_SCRAPES * self.settings.scrape_interval_s
        expression = found.rule(self.settings.pace, floor_s)["expr"]
        return any(labels.items() <= s.labels.items() for s in self._prometheus.query(expression))

    def told(self, alert: str, labels: Mapping[str, str]) -> bool:
        """Whether Alertmanager has such an alert and tells it: it is not silenced. Raises ServerError."""
        wanted = {"alertname": alert, **labels}
        return any(
            a.state == "active" and wanted.items() <= a.labels.items() for a in self._alertmanager.alerts()
        )
