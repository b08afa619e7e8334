"""Outcomes, exposures and stores for tests."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Gauge

from headrace.ticks import ArmName, Exposure
from services.monitoring.database.facts import Facts
from services.monitoring.outcomes.records import Outcome

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


def facts_at(
    address: Path | str | None = None, log: Log | None = None, registry: CollectorRegistry | None = None
) -> Facts:
    failing = Gauge("failing", "", registry=registry or CollectorRegistry())
    return Facts(None if address is None else str(address), failing, log or Log())


def emptied(facts: Facts) -> Facts:
    """Without what was stored in it."""

    def empty(connection: sa.Connection) -> None:
        for name in set(sa.inspect(connection).get_table_names()) - {
            "schema_info",
            "alembic_version",
            "turns",
        }:
            connection.execute(sa.delete(sa.table(name)))

    facts.write(empty)
    return facts


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
