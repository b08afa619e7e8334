"""Leases: rows on the database's clock. All that is done here is done with the head locked."""

from __future__ import annotations

import sqlalchemy as sa

from headrace.catalog.access import LeaseToken
from headrace.catalog.errors import LeaseLostError, RecordsDivergedError
from headrace.catalog.tables import LEASES
from headrace.storage.database import clock

# A process of control that may not change anything holds it, so that no other one does either. Its holder is the reason.
REFUSAL = "no change is accepted"


def check_refusal(connection: sa.Connection) -> None:
    """Raises RecordsDivergedError while some process of control refuses changes."""
    row = _row(connection, REFUSAL)
    if row is not None and row.until > row.now:
        raise RecordsDivergedError(row.holder)


def require(connection: sa.Connection, lease: LeaseToken) -> None:
    """Raises LeaseLostError unless the lease is held, and will be until the transaction ends."""
    row = _row(connection, lease.name)
    if row is None or row.token != lease.token or not lease.token or row.until <= row.now:
        raise LeaseLostError(lease.name)


def acquire(
    connection: sa.Connection, name: str, holder: str, duration_s: float, token: str, fresh: str
) -> str:
    """The token of the lease; empty: somebody else holds it, or `token` is not its token any more. `fresh`: for a lease that is
    free; the same one when the transaction is run again."""
    row = _row(connection, name)
    held = row is not None and row.until > row.now
    if token:
        if row is None or not held or row.token != token:
            return ""
        given = token
    elif row is not None and held and row.token != fresh:
        return ""
    else:
        given = fresh
    values = {"holder": holder, "token": given, "until": clock() + duration_s}
    if row is None:
        connection.execute(LEASES.insert().values(name=name, **values))
    else:
        connection.execute(LEASES.update().where(LEASES.c.name == name).values(**values))
    return given


def end(connection: sa.Connection, name: str) -> None:
    """Whoever holds it."""
    connection.execute(LEASES.update().where(LEASES.c.name == name).values(token="", until=0.0))


def release(connection: sa.Connection, lease: LeaseToken) -> None:
    connection.execute(
        LEASES.update()
        .where(LEASES.c.name == lease.name, LEASES.c.token == lease.token)
        .values(token="", until=0.0)
    )


def _row(connection: sa.Connection, name: str) -> sa.Row[tuple[str, str, float, float]] | None:
    found = sa.select(LEASES.c.holder, LEASES.c.token, LEASES.c.until, clock().label("now"))
    return connection.execute(found.where(LEASES.c.name == name)).one_or_none()
