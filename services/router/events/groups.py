"""Answered batches → groups of events: joined where they are alike, with what every event has, personal data masked."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.columns import ANNOTATION, Batch, Column, DType, Rows
from headrace.columns.column import join, of_numpy
from headrace.events import (
    CACHED,
    CODE,
    KEY,
    LATENCY_US,
    REASON,
    ROW,
    SEQUENCE,
    TIME_US,
    EventGroup,
    GroupHeader,
    Mask,
    event_ids,
)
from services.router.cache.run import CACHED as CACHED_US
from services.router.events.fields import FIELDS
from services.router.events.ring import AnsweredBatch, Stored
from services.router.routes.run import FALLBACKS, MAX_FALLBACKS


@dataclass(frozen=True, slots=True)
class GroupBuilder:
    """Makes groups. `mask`: for inputs with personal data."""

    mask: Mask

    def groups(self, noted: Iterable[AnsweredBatch]) -> list[EventGroup]:
        """The events of all batches, in the order in which the first of each kind came."""
        return [group for group in self.steps(noted) if group is not None]

    def steps(self, noted: Iterable[AnsweredBatch]) -> Iterator[EventGroup | None]:
        """The same, and None after each step of the work, so that who has something else to do can do it between."""
        alike: dict[Hashable, list[AnsweredBatch]] = {}
        for one in noted:
            if len(one):
                alike.setdefault(_kind(one), []).append(one)
        for parts in alike.values():
            yield from self._group(parts)

    def _group(self, parts: list[AnsweredBatch]) -> Iterator[EventGroup | None]:
        first = parts[0]
        recorded = first.recorded
        joined = yield from _joined(parts)
        columns = dict(joined.columns)
        masked = tuple(n for n in columns if n in recorded.private)
        for name in masked:
            columns[name] = self.mask.column(columns[name])
            yield None
        facts = yield from _facts(parts, joined)
        columns |= {c.name: c for c in facts}
        if FALLBACKS in columns:
            columns[FALLBACKS] = _common(parts, columns[FALLBACKS])
        if first.key is not None:
            keys = join([p.key for p in parts if p.key is not None])
            # Without a salt what is no personal data still tells units apart.
            mask = self.mask if self.mask.finds or keys.name in recorded.private else Mask(b"")
            columns[KEY] = replace(mask.column(keys), name=KEY)
        codes = columns[CODE].array
        if codes.any():
            columns |= _without_failed(columns, recorded.outputs, codes == 0)
        header = GroupHeader(
            recorded.pipeline.name,
            recorded.pipeline.version,
            recorded.pipeline.revision,
            recorded.arm,
            first.why.release,
            first.why.experiment,
            tuple(first.models),
            tuple(recorded.fallbacks),
            _present(recorded.inputs, columns),
            _present(recorded.features, columns),
            _present(recorded.outputs, columns),
            masked,
            first.omitted,
            shadow_of=first.why.shadow_of,
        )
        yield EventGroup(header, Batch(joined.rows, columns))


def _joined(parts: Sequence[AnsweredBatch]) -> Generator[None, None, Batch]:
    """The rows of all batches, which have the same columns in the same order. Times and priorities are of no use any more."""
    ids = [i for p in parts for i in p.rows.request_ids]
    tenants = [t for p in parts for t in p.rows.tenants]
    traces = [t for p in parts for t in p.rows.traceparents]
    rows = Rows(ids, tenants, [0] * len(ids), [0.0] * len(ids), traces)
    yield
    columns = []
    for of_name in zip(parts[0].names, *[p.values for p in parts], strict=True):
        columns.append(_joined_column(*of_name))
        yield
    return Batch.of(rows, columns)


def _joined_column(name: str, *parts: Stored) -> Column:
    arrays = [p for p in parts if not isinstance(p, Column)]
    if len(arrays) < len(parts):
        # Of most batches each row has a value, of this one not.
        return join([p if isinstance(p, Column) else Column.of(name, p) for p in parts])
    joined = Column.of(name, np.concatenate(arrays))
    if joined.dtype is not of_numpy(arrays[0].dtype):
        raise ValueError(f"column {name} has different types in batches of one revision")
    return joined


def _present(names: Iterable[str], columns: Iterable[str]) -> tuple[str, ...]:
    known = set(columns)
    return tuple(name for name in names if name in known)


def _kind(noted: AnsweredBatch) -> Hashable:
    """Equal for batches that fit into one group. The document or the model's version says which type a column has."""
    return (
        id(noted.recorded),
        noted.why,
        noted.omitted,
        tuple(noted.models),
        noted.names,
        noted.key is None or noted.key.name,
    )


def _common(parts: Sequence[AnsweredBatch], column: Column) -> Column:
    """`@fallbacks` of all batches with the bits of `Recorded.fallbacks`, which gets the names that it lacks.

    Each batch has bits of its own, and few batches have the same fallbacks in the same order. A group for each order would be
    several a message, and a group costs as much as hundreds of rows.
    """
    common = parts[0].recorded.fallbacks
    by_names: dict[tuple[str, ...], list[int]] = {}
    for number, part in enumerate(parts):
        by_names.setdefault(tuple(part.fallbacks), []).append(number)
    values, part_of = (
        np.zeros(len(column), np.uint64),
        np.repeat(np.arange(len(parts)), [len(p) for p in parts]),
    )
    for names, numbers in by_names.items():
        common += [n for n in names if n not in common][: MAX_FALLBACKS - len(common)]
        rows = np.isin(part_of, numbers)
        for before, name in enumerate(names):
            if name in common:
                bit = column.array[rows] >> np.uint64(before) & np.uint64(1)
                values[rows] |= bit << np.uint64(common.index(name))
    return replace(column, values=values)


def _facts(parts: Sequence[AnsweredBatch], joined: Batch) -> Generator[None, None, list[Column]]:
    """The columns that every event has. Counts and times are those of the batch that a row was in."""
    counts = np.array([len(p) for p in parts])

    def spread(values: Sequence[int]) -> NDArray[np.int64]:
        return np.repeat(np.array(values, np.int64), counts)

    times = spread([p.time_us for p in parts])
    within = np.arange(len(joined)) - np.repeat(np.cumsum(counts) - counts, counts)
    sequences = spread([p.first for p in parts]) + within
    codes, reasons = _errors(parts, len(joined))
    kept = joined.columns.get(CACHED_US)
    cached = np.zeros(len(joined), bool) if kept is None else kept.array >= 0
    further: list[Column] = []
    for fields in FIELDS:
        further += yield from fields(parts, counts, cached)
        yield
    return [
        event_ids(times, spread([p.epoch for p in parts]), sequences),
        Column(SEQUENCE, DType.INT64, sequences),
        Column(TIME_US, DType.INT64, times),
        Column(ROW, DType.UINT32, np.concatenate([_places(p) for p in parts])),
        Column(CODE, DType.UINT8, codes),
        Column(REASON, DType.UINT16, reasons),
        Column(LATENCY_US, DType.INT64, spread([p.latency_us for p in parts])),
        Column(CACHED, DType.BOOL, cached),
        *further,
    ]


def _places(noted: AnsweredBatch) -> NDArray[np.uint32]:
    """Position of each row in its request, of which another arm may have got other rows."""
    places = np.array(_places_in_requests(noted.whole), np.uint32)
    return places if noted.positions is None else places[noted.positions]


def _places_in_requests(rows: Rows) -> list[int]:
    """Position of each row in its request: the rows of a request are next to each other."""
    places: list[int] = []
    place, last = 0, None
    # Tenants choose their ids without knowing of each other.
    for request in zip(rows.request_ids, rows.tenants, strict=True):
        place = place + 1 if request == last else 0
        places.append(place)
        last = request
    return places


def _errors(parts: Sequence[AnsweredBatch], count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    codes, reasons, start = np.zeros(count, np.uint8), np.zeros(count, np.uint16), 0
    for part in parts:
        for row, error in part.errors.items():
            codes[start + row], reasons[start + row] = int(error.code), int(error.reason)
        start += len(part)
    return codes, reasons


def _without_failed(
    columns: dict[str, Column], outputs: Iterable[str], good: NDArray[np.bool_]
) -> dict[str, Column]:
    """The outputs with nulls for rows that failed: their values mean nothing."""
    found = {}
    for name in outputs:
        column = columns.get(name)
        if column is not None and not name.startswith(ANNOTATION):
            valid = good if column.valid is None else column.valid & good
            found[name] = Column(name, column.dtype, column.values, column.row_shape, valid)
    return found
