"""Lease and ladder at control, and evidence in the database.

Evidence that is lost costs time, never safety: the rollout stays at its weight until there is new evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from headrace.catalog.access import LeaseToken, Records
from headrace.catalog.remote import RemoteRecords
from headrace.releases.ladder import LEASE, Answer, Report, answer_of, report_message
from services.monitoring.database.columns import insert, table
from services.monitoring.database.facts import Facts

# `holder`: the lease of the analyser whose it is.
EVIDENCE = table("evidence", texts="pipeline holder content")
# Long enough for a slow round, short enough that a rollout is not long without an analyser.
LEASE_S = 5.0


class ControlLease:
    """A lease of control's, by its database's clock. Of what its holder says after it has ended, control makes nothing."""

    def __init__(self, records: Records, holder: str, lease_s: float = LEASE_S) -> None:
        self._records = records
        self._holder = holder
        self._lease_s = lease_s
        self.token = ""

    def hold(self) -> bool:
        """Takes the lease or prolongs it; then `token` proves that it is held. Blocks. Raises OSError: it can't be known.

        A lease that has ended is not taken again at once: its holder must first forget what it knew."""
        self.token = self._records.take_lease(LEASE, self._holder, self._lease_s, self.token)
        return bool(self.token)

    def release(self) -> None:
        """Gives it back, if it is held. Blocks. Raises OSError."""
        held, self.token = self.token, ""
        if held:
            self._records.give_back(LeaseToken(LEASE, held))


class ControlLadder:
    """That of control."""

    def __init__(self, records: RemoteRecords) -> None:
        self._records = records

    def report(self, report: Report) -> Answer:
        """See ports.Ladder."""
        return answer_of(self._records.report_verdict(report_message(report)))


class DatabaseEvidence:
    """Evidence for the next analyser. Who loads a pipeline's takes it over: what an earlier holder saves after that is refused.
    Methods block and raise StorageError. `lease`: the token of who asks."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def load(self, pipeline: str, lease: str) -> Mapping[str, Any] | None:
        """What was saved last; None: nothing, or nothing that can be read."""

        def take(connection: sa.Connection) -> str:
            took = insert(connection, EVIDENCE).values(pipeline=pipeline, holder=lease, content="")
            took = took.on_conflict_do_update(index_elements=["pipeline"], set_={"holder": lease})
            return str(connection.execute(took.returning(EVIDENCE.c.content)).scalar_one())

        try:
            values = json.loads(self._facts.write(take))
        except (ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None

    def save(self, pipeline: str, values: Mapping[str, Any], lease: str) -> bool:
        """Replaces what was saved; False: another analyser has taken it over."""
        c = EVIDENCE.c
        saved = sa.update(EVIDENCE).where(c.pipeline == pipeline, c.holder == lease)
        saved = saved.values(content=json.dumps(values, allow_nan=False))
        return self._facts.write(lambda connection: connection.execute(saved).rowcount) == 1
