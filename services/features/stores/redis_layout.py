"""Feast's storage layout in Redis: builds the commands that read rows, and parses rows from the replies."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from services.features.feast.layout import event_time, field_of
from services.features.plan.plan import ViewPlan
from services.features.stores.online_store import KeyQuery, Rows, StoredRow, StoreError
from services.features.stores.redis_connection import bulk

# Size of the cache of parsed event times: many rows have the same one.
_TIMES = 4096


class _Form(NamedTuple):
    """An HMGET command for some views of one entity: the bytes before and after the key. `width`: its number of fields."""

    head: bytes
    tail: bytes
    width: int


class RedisLayout:
    """Rows of one Feast project."""

    def __init__(self, project: str) -> None:
        self._project = project.encode()
        self._fields: dict[str, list[bytes]] = {}
        self._forms: dict[tuple[str, ...], _Form] = {}
        self._times: dict[bytes, float] = {}

    def key(self, entity_key: bytes) -> bytes:
        return entity_key + self._project

    def entity_key(self, key: bytes) -> bytes:
        return key[: -len(self._project)]

    def fields(self, view: ViewPlan) -> list[bytes]:
        """The fields of a view's features, followed by the field of its event time."""
        fields = self._fields.get(view.identity)
        if fields is None:
            fields = [field_of(view.stored, f.name) for f in view.features]
            fields.append(f"_ts:{view.stored}".encode())
            self._fields[view.identity] = fields
        return fields

    def commands(self, asks: Sequence[KeyQuery]) -> tuple[bytes, int]:
        """Packed commands for all keys of all queries, and the number of commands."""
        packed: list[bytes] = []
        project = self._project
        for group in _groups(asks):
            head, tail, _ = self._form([asks[i].view for i in group])
            tail = project + tail
            keys = asks[group[0]].keys
            heads = {size: b"%b%d\r\n" % (head, size + len(project)) for size in set(map(len, keys))}
            packed += [heads[len(key)] + key + tail for key in keys]
        return b"".join(packed), len(packed)

    def rows(self, asks: Sequence[KeyQuery], replies: Sequence[Any]) -> Sequence[Rows]:
        """The rows in the replies to `commands`. Raises StoreError for a reply that is not a row."""
        rows: list[Rows] = [()] * len(asks)
        begin = 0
        for group in _groups(asks):
            width = self._form([asks[i].view for i in group]).width
            part = replies[begin : begin + len(asks[group[0]].keys)]
            begin += len(part)
            if part and (set(map(type, part)) != {list} or set(map(len, part)) != {width}):
                wrong = next(reply for reply in part if type(reply) is not list or len(reply) != width)
                raise StoreError(f"Redis answers {str(wrong)[:200]!r}, which is no hash of features")
            start = 0
            for i in group:
                stop = start + len(asks[i].view.features)
                rows[i] = self._rows(part, start, stop)
                start = stop + 1
        return rows

    def _rows(self, replies: Sequence[list[Any]], start: int, stop: int) -> list[StoredRow | None]:
        stamps = list(map(itemgetter(stop), replies))
        values: list[tuple[bytes, ...]]
        if stop - start == 1:
            values = list(zip(map(itemgetter(start), replies), strict=True))
        else:
            values = (
                list(map(itemgetter(*range(start, stop)), replies)) if stop > start else [()] * len(stamps)
            )
        # A null is a missing field or an empty value.
        if not all(map(all, values)):
            values = [row if all(row) else tuple([value or b"" for value in row]) for row in values]
        times = list(map(self._times.get, stamps))
        if None not in times:
            return list(zip(times, values, strict=True))  # type: ignore[arg-type]  # none is None
        # Without an event time the entity counts as absent, even if other fields exist.
        return [
            ((self._time(stamp) if time is None else time), row) if stamp else None
            for stamp, time, row in zip(stamps, times, values, strict=True)
        ]

    def _time(self, stamp: bytes) -> float:
        if len(self._times) >= _TIMES:
            self._times.clear()
        time = self._times[stamp] = event_time(stamp)
        return time

    def _form(self, views: Sequence[ViewPlan]) -> _Form:
        names = tuple([view.identity for view in views])
        form = self._forms.get(names)
        if form is None:
            if len(self._forms) >= _TIMES:
                self._forms.clear()
                self._fields.clear()
            fields = [field for view in views for field in self.fields(view)]
            head = b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + len(fields))
            form = self._forms[names] = _Form(head, b"\r\n" + bulk(fields), len(fields))
        return form


def _groups(asks: Sequence[KeyQuery]) -> list[list[int]]:
    """Groups queries for the same keys: one command per key reads them together."""
    groups: dict[int, list[int]] = {}
    for i, ask in enumerate(asks):
        groups.setdefault(id(ask.keys), []).append(i)
    return list(groups.values())
