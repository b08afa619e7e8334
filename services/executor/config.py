"""Settings of the executor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from headrace.hop.config import ServiceSettings, Settings


class ModelSettings(Settings):
    """How one model is run; each of its versions has its own queue and instances."""

    # Runs at the same time.
    instances: PositiveInt = 1
    # Rows in one run.
    max_rows: PositiveInt = Field(default=256, le=65536)
    # How long a row may wait for company though an instance is idle; 0: natural batching alone.
    max_delay_us: int = Field(default=0, ge=0, le=1_000_000)
    # Rows that may wait; beyond, RESOURCE_EXHAUSTED for the lowest priority.
    max_queue_rows: PositiveInt = 4096
    # Threads inside one run.
    threads: PositiveInt = 1


class ExecutorConfig(ServiceSettings):
    """Settings of the executor service."""

    # The model repository.
    models: Path
    # "all", or entries "name" (every version of it) and "name:version".
    load: Literal["all"] | tuple[str, ...] = "all"
    # How models run, unless `overrides` has the model's name.
    defaults: ModelSettings = ModelSettings()
    overrides: dict[str, ModelSettings] = Field(default_factory=dict)
    # Batch sizes that each model runs before the service is ready.
    warmup_rows: tuple[PositiveInt, ...] = (1, 8, 64, 256)
    # Runs expected to be shorter than this stay on the event loop; longer ones get a thread.
    inline_us: int = Field(default=300, ge=0)
    # A run longer than this is given up: its rows fail, and the engine is asked to stop it.
    run_timeout_s: PositiveFloat = 10.0

    def settings_of(self, model: str) -> ModelSettings:
        """How `model` is run."""
        return self.overrides.get(model, self.defaults)
