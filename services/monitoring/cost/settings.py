"""Settings of the cost ledger."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveFloat, field_validator, model_validator

from headrace.hop.config import Settings


class CostSettings(Settings):
    """Where it reads what processes used, and what that costs."""

    # File that names the metrics of all processes, as Prometheus reads it (`file_sd_configs`); the supervisor writes it.
    targets: Path | None = None
    # Where there is no such file: by service, the name and port at which DNS has the metrics of each of its processes, such as
    # router.headrace.svc:7190. Neither of both: what predictions cost is not told.
    services: dict[str, str] = Field(default_factory=dict)
    # Prices, by people; a mistake in it leaves the last good one in force. Absent: the defaults.
    prices: Path | None = None
    # Folder of all files that the installation keeps, for the price of storage. Absent: only events count.
    files: Path | None = None
    # How often processes are asked. What is lost by a crash is no more than this.
    every_s: PositiveFloat = 15.0

    @property
    def told(self) -> bool:
        """Whether it is known which processes there are."""
        return self.targets is not None or bool(self.services)

    @field_validator("services")
    @classmethod
    def _names_ports(cls, services: dict[str, str]) -> dict[str, str]:
        for service, place in services.items():
            host, _, port = place.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"{service}: {place!r} is no NAME:PORT")
        return services

    @model_validator(mode="after")
    def _named_once(self) -> CostSettings:
        if self.targets is not None and self.services:
            raise ValueError("processes are named by targets or by services, not by both")
        return self
