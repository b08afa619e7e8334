"""A change within its transaction. The head is locked first, so changes, and leases taken, come one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from headrace.audit import chain
from headrace.audit.chain import AuditLine
from headrace.catalog import leases
from headrace.catalog.access import KEPT_VERSIONS, Change, Made, Position, Record, Write
from headrace.catalog.errors import RecordChangedError, RecordInvalidError, Unavailable
from headrace.catalog.tables import AUDIT, EPOCHS, HEAD, RECORDS
from headrace.storage.database import clock, unavailable

MAX_NAME_CHARACTERS = 512
MAX_CONTENT_BYTES = 2 << 20
MAX_LINE_BYTES = 1 << 20
_ACTION = re.compile(r"[a-z_]+(\.[a-z_]+)*")
_MAX_ACTOR, _MAX_SUBJECT, _MAX_REASON = 200, 600, 4000
_MAX_WRITES, _MAX_BYTES = 2000, 16 << 20
# Of one statement; a database takes only so many parameters.
_NAMES_AT_ONCE = 500
_Names = tuple[str, str]
_HEAD = sa.select(HEAD.c.epoch, HEAD.c.number, HEAD.c.sha256, HEAD.c.changed_at)


def check(change: Change) -> None:
    """Raises RecordInvalidError for what no database could take."""
    check_text("change", change.id, change.id)
    if change.lease is not None:
        check_text("lease", change.lease.name, change.lease.name)
    try:
        "".join(
            (
                change.actor,
                change.action,
                change.subject,
                change.reason,
                *change.details,
                *change.details.values(),
            )
        ).encode()
    except UnicodeEncodeError:
        raise RecordInvalidError("change", change.id, "it has text that is not Unicode") from None
    size = sum(len(write.content or b"") for write in change.writes)
    problems = {
        "actor: say who makes the change": not change.actor,
        "action: words of small letters with points between": not _ACTION.fullmatch(change.action),
        f"actor: longer than {_MAX_ACTOR} characters": len(change.actor) > _MAX_ACTOR,
        f"subject: longer than {_MAX_SUBJECT} characters": len(change.subject) > _MAX_SUBJECT,
        f"reason: longer than {_MAX_REASON} characters": len(change.reason) > _MAX_REASON,
        f"writes: more than {_MAX_WRITES}": len(change.writes) > _MAX_WRITES,
        f"writes: more than {_MAX_BYTES} bytes": size > _MAX_BYTES,
    }
    if found := [text for text, wrong in problems.items() if wrong]:
        raise RecordInvalidError("change", change.id, "; ".join(found))
    seen: set[_Names] = set()
    for write in change.writes:
        check_text(write.kind, write.name, write.kind)
        check_text(write.kind, write.name, write.name)
        if (write.kind, write.name) in seen:
            raise RecordInvalidError(write.kind, write.name, "the change writes it twice")
        seen.add((write.kind, write.name))
        if write.content is not None and len(write.content) > MAX_CONTENT_BYTES:
            raise RecordInvalidError(
                write.kind, write.name, f"it has more than {MAX_CONTENT_BYTES >> 20} MiB"
            )


def check_text(kind: str, name: str, text: str) -> None:
    """Raises RecordInvalidError if `text` can't be a name. `kind`, `name`: what it is the name of."""
    if not 0 < len(text) <= MAX_NAME_CHARACTERS:
        raise RecordInvalidError(kind[:100], name[:100], f"a name has 1 to {MAX_NAME_CHARACTERS} characters")
    # Lines of a manifest have tabs between them; halves of surrogates are no Unicode.
    if re.search("[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise RecordInvalidError(kind, name, "a name has no control characters")


def lock_head(connection: sa.Connection) -> Position:
    """The newest position; no other transaction changes anything until this one ends."""
    return _newest(connection, _HEAD.with_for_update())[0]


def newest(connection: sa.Connection) -> tuple[Position, float]:
    """The newest position, and when it was made."""
    return _newest(connection, _HEAD)


def _newest(connection: sa.Connection, head: sa.Select[Any]) -> tuple[Position, float]:
    row = connection.execute(head).one_or_none()
    if row is None:
        raise unavailable(Unavailable.NOT_INITIALISED)
    return Position(row.epoch, row.number, row.sha256), row.changed_at


def lines(connection: sa.Connection, after: int, limit: int) -> list[AuditLine]:
    found = sa.select(AUDIT.c.number, AUDIT.c.line, AUDIT.c.sha256).where(AUDIT.c.number > after)
    return [AuditLine(*row) for row in connection.execute(found.order_by(AUDIT.c.number).limit(limit))]


def first(connection: sa.Connection) -> None:
    """Writes the first line: an initialised database has something to publish."""
    change = Change(actor="control", action="records.initialise", subject="records")
    head = {"id": 1, "epoch": 0, "number": 0, "sha256": chain.BEFORE_FIRST, "changed_at": 0.0}
    connection.execute(HEAD.insert().values(head))
    make(connection, change, 0)


def make(
    connection: sa.Connection, change: Change, above: int | None, check: Callable[[], None] | None = None
) -> Made:
    """Makes a change once. `above`: it begins an epoch, greater than this one. `check`: raises for what must not be written; what
    it reads is so until the commit.

    Raises RecordChangedError, LeaseLostError, RecordInvalidError, RecordsDivergedError.
    """
    head = lock_head(connection)
    before = sa.select(AUDIT.c.line).where(AUDIT.c.change_id == change.id).scalar_subquery()
    now_s, line = connection.execute(sa.select(clock(), before)).one()
    if line is not None:
        return _made_before(change, line)
    if check is not None:
        check()
    if above is None:
        leases.check_refusal(connection)
    else:
        leases.end(connection, leases.REFUSAL)
    if change.lease is not None:
        leases.require(connection, change.lease)
    expected = {**{(w.kind, w.name): w.expected for w in change.writes}, **change.requires}
    versions = _versions(connection, list(expected))
    for (kind, name), wanted in expected.items():
        version = versions.get((kind, name), 0)
        if wanted is not None and wanted != version:
            raise RecordChangedError(kind, name, version)
    number = head.number + 1
    records = tuple(
        Record(w.kind, w.name, versions.get((w.kind, w.name), 0) + 1, number, None) for w in change.writes
    )
    _write(connection, change.writes, records)
    epoch = head.epoch if above is None else max(head.epoch, above) + 1
    line = chain.build(
        number=number,
        epoch=epoch,
        at_s=now_s,
        id=change.id,
        actor=change.actor,
        action=change.action,
        subject=change.subject,
        reason=change.reason,
        details=change.details,
        writes=_written(change.writes, records),
        previous=head.head,
    )
    if len(line) > MAX_LINE_BYTES:
        raise RecordInvalidError("change", change.id, "it is too large for one line of the audit")
    position = Position(epoch, number, chain.digest(line))
    connection.execute(
        AUDIT.insert().values(number=number, change_id=change.id, line=line, sha256=position.head)
    )
    if epoch != head.epoch:
        connection.execute(EPOCHS.insert().values(epoch=epoch, number=number))
    connection.execute(
        HEAD.update().values(epoch=epoch, number=number, sha256=position.head, changed_at=now_s)
    )
    return Made(position, records)


def _made_before(change: Change, line: bytes) -> Made:
    """The answer that the change had when it was made."""
    found = chain.fields(line)
    if found is None:
        raise unavailable(Unavailable.DAMAGED)
    written = chain.written(found)
    as_sent = [
        (w.kind, w.name, None if w.content is None else chain.digest(w.content).hex()) for w in change.writes
    ]
    if [(w.kind, w.name, w.sha256) for w in written] != as_sent or found["action"] != change.action:
        raise RecordInvalidError("change", change.id, "another change has the same id")
    records = tuple(Record(w.kind, w.name, w.version, found["number"], None) for w in written)
    return Made(Position(found["epoch"], found["number"], chain.digest(line)), records)


def _versions(connection: sa.Connection, wanted: Sequence[_Names]) -> dict[_Names, int]:
    """The newest version of each record that there is."""
    found: dict[_Names, int] = {}
    newest_version = sa.func.max(RECORDS.c.version)
    for start in range(0, len(wanted), _NAMES_AT_ONCE):
        names = wanted[start : start + _NAMES_AT_ONCE]
        rows = connection.execute(
            sa.select(RECORDS.c.kind, RECORDS.c.name, newest_version)
            .where(sa.tuple_(RECORDS.c.kind, RECORDS.c.name).in_(names))
            .group_by(RECORDS.c.kind, RECORDS.c.name)
        )
        found |= {(kind, name): version for kind, name, version in rows}
    return found


def _write(connection: sa.Connection, writes: Sequence[Write], records: Sequence[Record]) -> None:
    if not writes:
        return
    rows = [
        {"kind": r.kind, "name": r.name, "version": r.version, "number": r.number, "content": w.content}
        for w, r in zip(writes, records, strict=True)
    ]
    connection.execute(RECORDS.insert(), rows)
    # Nothing is left of what was deleted but that it was, and its version, so that numbers go on.
    oldest = [
        {
            "of": r.kind,
            "named": r.name,
            "oldest": r.version - (KEPT_VERSIONS - 1 if w.content is not None else 0),
        }
        for w, r in zip(writes, records, strict=True)
    ]
    connection.execute(
        RECORDS.delete().where(
            RECORDS.c.kind == sa.bindparam("of"),
            RECORDS.c.name == sa.bindparam("named"),
            RECORDS.c.version < sa.bindparam("oldest"),
        ),
        oldest,
    )


def _written(writes: Sequence[Write], records: Sequence[Record]) -> list[chain.Written]:
    return [
        chain.Written(r.kind, r.name, r.version, None if w.content is None else chain.digest(w.content).hex())
        for w, r in zip(writes, records, strict=True)
    ]
