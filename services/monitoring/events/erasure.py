"""Removes events of a tenant from segments, which are written anew without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from headrace.events import EVENT_ID, Mask
from services.monitoring.events.storage.arrow import REQUEST_ID, TENANT, header_of
from services.monitoring.events.storage.segments import UnreadableError
from services.monitoring.events.storage.store import EventStore, failed


@dataclass(frozen=True, slots=True)
class Subject:
    """Whoever a value of an input stands for; text, as `headrace.events.mask.texts` writes it."""

    column: str
    value: str


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose events go: of one tenant all, or those of any of the requests or subjects."""

    tenant: str
    subjects: tuple[Subject, ...] = ()
    request_ids: tuple[str, ...] = ()
    whole_tenant: bool = False


@dataclass(slots=True)
class Erased:
    """`unreadable`: segments of which it is unknown whether they hold such events."""

    events: int = 0
    segments: int = 0
    unreadable: list[str] = field(default_factory=list)


class MaskedError(Exception):
    """Nobody can be found by this input: hashes stand in the place of its values, and their salt is not known here."""

    def __init__(self, column: str) -> None:
        super().__init__(column)
        self.column = column


def erase(
    store: EventStore, who: Erasure, mask: Mask, forget: Callable[[Sequence[bytes]], object] = lambda _: None
) -> Erased:
    """Erases. `forget`: gets the ids of events before they go, and removes what is kept elsewhere of them. Blocks.

    Raises MaskedError, then nothing was erased; StorageError, then some segments may be done already, and the same call again
    does the rest.
    """
    store.close_due(everything=True)
    # Also those that another process closed, or that an erasure which failed left.
    store.refresh()
    erased = Erased()
    try:
        if not mask.finds:
            _check_findable(store, who)
        for segment in store.index.segments(tenant=who.tenant):
            try:
                table = store.closed.read(segment.name)
            except FileNotFoundError:
                continue  # swept meanwhile
            except UnreadableError as error:
                erased.unreadable.append(segment.name)
                store.set_aside(segment.name, str(error))
                continue
            concerned = _concerned(table, who, mask)
            left = table.filter(pc.invert(concerned))
            gone = table.num_rows - left.num_rows
            if not gone:
                continue
            forget(table.filter(concerned)[EVENT_ID].to_pylist())
            # Before the old one goes: a crash in between leaves both, and the same call again removes the old one.
            new = store.closed.write(left) if left.num_rows else None
            if new is not None:
                store.closed.settle(new.name)
            store.index.replace(segment.name, new)
            store.closed.remove(segment.name)
            erased.events += gone
            erased.segments += 1
    except OSError as error:
        raise failed(error) from error
    return erased


def _check_findable(store: EventStore, who: Erasure) -> None:
    """Raises MaskedError. Damaged segments are left to the erasure itself."""
    columns = {subject.column for subject in who.subjects}
    for segment in store.index.segments(tenant=who.tenant) if columns else ():
        with suppress(FileNotFoundError, UnreadableError):
            masked = store.closed.header(segment.name).masked
            if hidden := columns.intersection(masked):
                raise MaskedError(min(hidden))


def _concerned(table: pa.Table, who: Erasure, mask: Mask) -> pa.ChunkedArray:
    """bool: which events go."""
    own = pc.equal(table[TENANT], who.tenant)
    if who.whole_tenant:
        return own
    about = pc.is_in(table[REQUEST_ID], value_set=pa.array(who.request_ids, pa.string()))
    masked = header_of(table.schema).masked
    for subject in who.subjects:
        if subject.column not in table.column_names or subject.column.startswith(("@", "$")):
            continue
        column = table[subject.column]
        if subject.column in masked:
            about = pc.or_(about, _equal(column, mask.hash(subject.column, subject.value.encode())))
        elif pa.types.is_binary(column.type):
            about = pc.or_(about, _equal(column, subject.value.encode()))
        elif not pa.types.is_nested(column.type):
            about = pc.or_(about, pc.equal(_texts(column), subject.value))
    return pc.and_(own, pc.fill_null(about, False))


def _equal(column: pa.ChunkedArray, value: bytes) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(column, pa.scalar(value, column.type)), False)


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """Numbers as Python writes them."""
    return pa.array(
        [
            None if v is None else str(v).lower() if isinstance(v, bool) else str(v)
            for v in column.to_pylist()
        ],
        pa.string(),
    )
