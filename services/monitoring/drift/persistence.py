"""What survives a restart, in the database `facts`: references of error rates, and when retrainings were due."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from services.monitoring.database.columns import table
from services.monitoring.drift.ports import Version

STATES = table("drift_states", texts="pipeline arm runs state")


def save(connection: sa.Connection, states: Mapping[Version, Any]) -> None:
    """These states replace all earlier ones."""
    connection.execute(sa.delete(STATES))
    if states:
        rows = [{**version._asdict(), "state": json.dumps(state)} for version, state in states.items()]
        connection.execute(sa.insert(STATES), rows)


def load(connection: sa.Connection) -> dict[Version, Any]:
    """What an earlier process left."""
    rows = connection.execute(sa.select(STATES)).all()
    return {Version(row.pipeline, row.arm, row.runs): json.loads(row.state) for row in rows}
