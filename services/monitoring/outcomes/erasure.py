"""What the database has of predictions that are erased goes in the transaction that puts their file's successor in its place.

Sums of many predictions stay: windows of accuracy, coverage, the bill.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence

import sqlalchemy as sa

from services.monitoring.events.values import ErasedEvent, Erasure
from services.monitoring.explanations.store import EXPLANATIONS, forget
from services.monitoring.outcomes.tables import CONTRADICTIONS, JUDGEMENTS, MAKERS, OUTCOMES, PREDICTIONS

_PER_STEP = 500


def erase(
    connection: sa.Connection, *, who: Erasure, gone: Sequence[ErasedEvent], clock: Callable[[], float]
) -> None:
    """Removes what there is of these events; without events, what there is of the requests, or of the tenant, whose events may
    have gone before. `clock`: seconds since 1970."""
    forget(connection, [event.event_id for event in gone], clock())
    if not gone and who.whole_tenant:
        connection.execute(sa.delete(EXPLANATIONS).where(EXPLANATIONS.c.tenant == who.tenant))
    keys: set[tuple[str, int]] = set()
    for table in (CONTRADICTIONS, OUTCOMES, PREDICTIONS):
        for which in _which(table, who, gone):
            if table is PREDICTIONS:
                found = sa.select(MAKERS.c.pipeline, table.c.key).join_from(
                    table, MAKERS, MAKERS.c.id == table.c.made_by
                )
                keys |= {
                    (pipeline, key)
                    for pipeline, key in connection.execute(found.where(which, table.c.key.is_not(None)))
                }
            connection.execute(sa.delete(table).where(which))
    # Rollouts count each key once: a random one in its place counts as much, and says nothing of anybody.
    c = JUDGEMENTS.c
    for pipeline, key in keys:
        nobody = secrets.randbits(64) - (1 << 63)
        connection.execute(
            sa.update(JUDGEMENTS).where(c.pipeline == pipeline, c.key == key).values(key=nobody)
        )


def _which(table: sa.Table, who: Erasure, gone: Sequence[ErasedEvent]) -> Iterator[sa.ColumnElement[bool]]:
    """Rows of a table, in steps."""
    own, c = table.c.tenant == who.tenant, table.c
    if not gone and who.whole_tenant:
        yield own
    elif not gone and who.request_ids:
        yield own & c.request_id.in_(who.request_ids)
    for start in range(0, len(gone), _PER_STEP):
        rows = [(event.request_id, event.row) for event in gone[start : start + _PER_STEP]]
        yield own & sa.tuple_(c.request_id, c.row).in_(rows)
