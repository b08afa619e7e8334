"""What an installation may set of its alerts: `HOME/settings/slo.yaml`. All keys may be absent."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from headrace.hop.config import Settings

_TIME = r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$"
Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Maintenance(Settings):
    """A window that comes each week, in which nobody is told; times are UTC. For a single one: `headrace slo silence`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    weekdays: tuple[Weekday, ...] = Field(min_length=1)
    start: str = Field(pattern=_TIME)
    end: str = Field(pattern=_TIME)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end <= self.start:
            raise ValueError("'end' must be after 'start'; give a window past midnight as two")
        return self


class SloSettings(Settings):
    """Times in seconds."""

    # Where Prometheus and Alertmanager answer, for `headrace slo status` and `silence`.
    prometheus: str = "http://127.0.0.1:9090"
    alertmanager: str = "http://127.0.0.1:9093"
    # Who is told; empty: nobody (the alerts are in Alertmanager only).
    page_webhook: str = ""
    ticket_webhook: str = ""
    scrape_interval_s: PositiveInt = 15
    # A level needs so many bad events in its long window: one error must not page for a service that nobody uses.
    min_bad: PositiveInt = 10
    # Availability of a pipeline whose document promises nothing, over 30 days; null: nothing is watched then.
    default_availability: float | None = Field(default=0.999, ge=0.9306, lt=1)
    # All times of rules are divided by this. For tests and game days; 1 otherwise.
    pace: PositiveFloat = 1.0
    page_group_wait_s: PositiveFloat = 10.0
    ticket_group_wait_s: PositiveFloat = 300.0
    # What joins a group that was told, and its end, is told after this.
    group_interval_s: PositiveFloat = 60.0
    maintenance: tuple[Maintenance, ...] = ()
