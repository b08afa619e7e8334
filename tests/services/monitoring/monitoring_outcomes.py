"""Outcomes, exposures and stores for tests."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.ticks import ArmName, Exposure
from services.monitoring.outcomes.database import Database
from services.monitoring.outcomes.records import Outcome
from services.monitoring.outcomes.store import OutcomeStore

NOW = 1_800_000_000.0


@dataclass
class Log:
    lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def info(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))

    warning = error = info

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.lines]

    def of(self, event: str) -> list[dict[str, Any]]:
        """What came with each line of this event."""
        return [fields for said, fields in self.lines if said == event]


def store_at(path: Path | None, log: Log | None = None) -> OutcomeStore:
    return OutcomeStore(Database(path, log or Log()))


def outcome(
    request: str, value: float = 1.0, name: str = "late", row: int = 0, label: bool = True
) -> Outcome:
    return Outcome(request, row, name, value, label, NOW)


def exposure(
    request: str,
    arm: str = "live",
    row: int = 0,
    key: int | None = None,
    release: int = 3,
    tenant: str = "acme",
    pipeline: str = "flights",
    **labels: float,
) -> Exposure:
    return Exposure(ArmName(pipeline, release, arm), tenant, request, row, key, labels)
