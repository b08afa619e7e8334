"""Settings of drift and of the retrain trigger."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from headrace.drift import Check, Limits
from headrace.hop import config
from headrace.repository import Trust
from services.monitoring.drift.retrain.webhook import WebhookSettings


class RetrainSettings(config.Settings):
    """What starts a retraining. Without `command` and `webhook`, it is only counted and logged that one is due."""

    # Program and arguments; it gets the cause as JSON on its standard input. It is no shell line.
    command: tuple[str, ...] = ()
    command_timeout_s: PositiveFloat = Field(default=3600.0, le=86_400)
    webhook: WebhookSettings | None = None
    # Checks whose alarms are a reason. Nulls, and what is not finite or out of range, are mostly broken data, from which a model
    # should not learn.
    checks: tuple[Check, ...] = (Check.DISTRIBUTION, Check.UNSEEN)
    # Whether concept drift is one.
    concept: bool = True
    # So long an alarm must be raised: what passes by itself needs no new model.
    after_s: float = Field(default=300.0, ge=0)
    # Time between two triggers of one pipeline, and the most of one pipeline in 24 hours.
    pause_s: PositiveFloat = 21_600.0
    per_day: PositiveInt = 2

    @field_validator("command")
    @classmethod
    def _named(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if command and not command[0]:
            raise ValueError("the first word names no program")
        return command


class ModelsTrust(config.Settings):
    """Which signatures of models are believed, as in the executor's settings."""

    keys: tuple[Path, ...] = ()
    accept_unsigned: bool = False

    def trust(self) -> Trust:
        return Trust(self.keys, self.accept_unsigned)


class DriftSettings(config.Settings):
    """How drift is told."""

    # Model repository with the baselines: a folder or URL. Absent: nothing is judged.
    models: str | None = None
    # None: signatures are not checked.
    trust: ModelsTrust | None = None
    # The newest rows of an arm that are judged; more tell smaller drifts, later.
    rows: PositiveInt = 2000
    # With fewer, nothing is judged.
    least_rows: PositiveInt = 200
    # Probability that a look raises any alarm though nothing changed; shared by all columns and checks of a model.
    alpha: float = Field(default=1e-5, gt=0, lt=0.5)
    psi_alert: PositiveFloat = 0.1
    psi_page: PositiveFloat = 0.25
    # Smallest difference of a share (nulls, unseen categories …) that is an alarm, and one that pages.
    share_alert: float = Field(default=0.001, gt=0, le=1)
    share_page: float = Field(default=0.1, gt=0, le=1)
    retrain: RetrainSettings = RetrainSettings()

    @property
    def limits(self) -> Limits:
        return Limits(self.alpha, self.psi_alert, self.psi_page, self.share_alert, self.share_page)
