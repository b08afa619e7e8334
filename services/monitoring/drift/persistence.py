"""What survives a restart: the references of error rates, in the database `facts`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from services.monitoring.database.columns import table
from services.monitoring.database.facts import Facts
from services.monitoring.drift.ports import Version
from services.monitoring.outcomes.records import StorageError
from services.monitoring.ports import Log

STATES = table("drift_states", texts="pipeline arm runs state")


class Memory:
    """Methods block, raise nothing, and belong to one thread. What can't be stored is lost with this process, not now."""

    def __init__(self, facts: Facts, log: Log) -> None:
        self._facts = facts
        self._log = log

    def save(self, states: Mapping[Version, Mapping[str, Any]]) -> None:
        """The states of versions replace the earlier ones."""
        rows = [{**version._asdict(), "state": json.dumps(state)} for version, state in states.items()]

        def save(connection: sa.Connection) -> None:
            connection.execute(sa.delete(STATES))
            if rows:
                connection.execute(sa.insert(STATES), rows)

        try:
            self._facts.write(save)
        except StorageError:
            return  # said by the database

    def concepts(self) -> dict[Version, Any]:
        """States of versions that an earlier process left."""
        try:
            rows = self._facts.query(lambda connection: connection.execute(sa.select(STATES)).all())
            return {Version(r.pipeline, r.arm, r.runs): json.loads(r.state) for r in rows}
        except StorageError:
            return {}  # said by the database
        except ValueError:
            self._log.error("references of error rates can't be read; they begin anew")
            return {}
