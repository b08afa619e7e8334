"""How Feast lays rows out in Redis: commands that read them, and rows from the replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from services.features.feast_layout import event_time, field_of
from services.features.planning import ViewPlan
from services.features.ports import Ask, Rows, StoredRow, StoreError
from services.features.redis_wire import bulk


class _Form(NamedTuple):
    """An HMGET of a view: what comes before and after the key, and its fields as words."""

    head: bytes
    tail: bytes
    fields: list[bytes]


class RedisLayout:
    """Rows of one Feast project."""

    def __init__(self, project: str) -> None:
        self._project = project.encode()
        self._forms: dict[str, _Form] = {}

    def key(self, entity_key: bytes) -> bytes:
        """Where an entity's hash is."""
        return entity_key + self._project

    def entity_key(self, key: bytes) -> bytes:
        """The entity whose hash is there."""
        return key[: -len(self._project)]

    def fields(self, view: ViewPlan) -> list[bytes]:
        """The fields of a view's features, and last that of its event time."""
        return self._form(view).fields

    def commands(self, asks: Sequence[Ask]) -> tuple[bytes, int]:
        """Packed commands for all keys of all asks, and how many."""
        packed: list[bytes] = []
        count, project = 0, self._project
        for view, keys in asks:
            head, tail, _ = self._form(view)
            packed += [
                b"%b%d\r\n%b%b\r\n%b" % (head, len(key) + len(project), key, project, tail) for key in keys
            ]
            count += len(keys)
        return b"".join(packed), count

    def rows(self, asks: Sequence[Ask], replies: Sequence[Any]) -> Sequence[Rows]:
        """The rows in the replies to `commands`. Raises StoreError for replies that are none."""
        rows: list[Rows] = []
        start = 0
        for view, keys in asks:
            width = len(view.features) + 1
            rows.append([_row(reply, width) for reply in replies[start : start + len(keys)]])
            start += len(keys)
        return rows

    def _form(self, view: ViewPlan) -> _Form:
        form = self._forms.get(view.identity)
        if form is None:
            fields = [field_of(view.stored, f.name) for f in view.features]
            fields.append(f"_ts:{view.stored}".encode())
            head = b"*%d\r\n$5\r\nHMGET\r\n$" % (2 + len(fields))
            form = self._forms[view.identity] = _Form(head, bulk(fields), fields)
        return form


def _row(reply: Any, width: int) -> StoredRow | None:
    if not isinstance(reply, list) or len(reply) != width:
        raise StoreError(f"Redis answers {str(reply)[:200]!r} where the fields of a hash were expected")
    # Without a time the entity is not there, whatever else is.
    stamp = reply.pop()
    if not stamp:
        return None
    return StoredRow(
        event_time(stamp), tuple(reply) if None not in reply else tuple([v or b"" for v in reply])
    )
