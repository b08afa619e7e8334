"""EventGroup ⇄ message."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.api.monitoring.v1 import events_pb2 as pb
from headrace.columns import Column, DType, decode, encode_into
from headrace.events.group import (
    BUSY_US,
    CACHED,
    CODE,
    EVENT_ID,
    ID_BYTES,
    LATENCY_US,
    REASON,
    ROW,
    SEQUENCE,
    TIME_US,
    EventGroup,
    GroupHeader,
)
from headrace.hop.errors import Fault
from headrace.pipeline import ModelUse

# Older routers send no others, so no field may be added; a new one is for those who can go without it.
_REQUIRED = {
    EVENT_ID: DType.BYTES,
    SEQUENCE: DType.INT64,
    TIME_US: DType.INT64,
    ROW: DType.UINT32,
    CODE: DType.UINT8,
    REASON: DType.UINT16,
    LATENCY_US: DType.INT64,
    BUSY_US: DType.INT64,
    CACHED: DType.BOOL,
}
# Fields of a header that have the same name in the message.
_PLAIN = ("pipeline", "version", "revision", "arm", "release", "experiment", "replayed", "shadow_of")
_LISTS = ("fallbacks", "inputs", "features", "outputs", "masked", "omitted")


class UnreadableError(ValueError):
    """A message holds no events. The text names the field."""


def write(replica: str, epoch: int, noted: int, groups: Iterable[EventGroup]) -> pb.EventReport:
    """The message of some groups. `noted`: events of the epoch so far."""
    message = pb.EventReport(replica=replica, epoch=epoch, noted_count=noted)
    for group in groups:
        write_group(message.groups.add(), group)
    return message


@dataclass(frozen=True, slots=True)
class Refused:
    """A group that can't be read, as one of another generation. `why` names the field; `rows`: how many events it has."""

    pipeline: str
    why: str
    rows: int


def read(message: pb.EventReport) -> tuple[list[EventGroup], list[Refused]]:
    """The groups of a message that can be read, and the others. Raises UnreadableError if the message itself can't be."""
    if not 0 < message.epoch < 1 << 63:
        raise UnreadableError("epoch has from 1 to 2⁶³−1")
    groups, refused = list[EventGroup](), list[Refused]()
    for i, group in enumerate(message.groups):
        try:
            groups.append(_in_order(f"groups[{i}]", group))
        except UnreadableError as error:
            refused.append(Refused(group.pipeline, str(error), len(group.batch.rows.request_ids)))
    return groups, refused


def _in_order(place: str, message: pb.EventGroup) -> EventGroup:
    group = read_group(place, message)
    _check_sequences(place, group.batch.columns[SEQUENCE])
    return group


def write_group(message: pb.EventGroup, group: EventGroup) -> None:
    """Fills an empty message."""
    header = group.header
    for name in _PLAIN:
        setattr(message, name, getattr(header, name))
    for name in _LISTS:
        getattr(message, name).extend(getattr(header, name))
    for used in header.models:
        message.models.add(stage=used.stage, model=used.model, version=used.version, sha256=used.sha256)
    encode_into(message.batch, group.batch, 0.0)


def read_group(place: str, message: pb.EventGroup) -> EventGroup:
    """A group. `place`: of the message, for the error. Raises UnreadableError."""
    try:
        batch = decode(message.batch)
    except Fault as fault:
        raise UnreadableError(f"{place}.batch: {fault.message}") from None
    models = tuple(ModelUse(m.stage, m.model, m.version, m.sha256) for m in message.models)
    fields: dict[str, Any] = {name: getattr(message, name) for name in _PLAIN}
    fields |= {name: tuple(getattr(message, name)) for name in _LISTS}
    header = GroupHeader(**fields, models=models)
    for name, dtype in _REQUIRED.items():
        column = batch.columns.get(name)
        if column is None or column.dtype is not dtype or column.row_shape or column.valid is not None:
            raise UnreadableError(f"{place}.batch: the column {name} must be {dtype.name} for each row")
    _check_ids(place, batch.columns[EVENT_ID])
    _check_names(place, header, batch.columns)
    return EventGroup(header, batch)


def _check_ids(place: str, ids: Column) -> None:
    if (np.diff(ids.ragged.offsets.astype(np.int64)) != ID_BYTES).any():
        raise UnreadableError(f"{place}.batch: each {EVENT_ID} has {ID_BYTES} bytes")


def _check_sequences(place: str, column: Column) -> None:
    numbers = column.array
    if len(numbers) and (numbers[0] < 1 or (np.diff(numbers) < 1).any()):
        raise UnreadableError(f"{place}.batch: {SEQUENCE} must ascend from 1")


def _check_names(place: str, header: GroupHeader, columns: Iterable[str]) -> None:
    known: Sequence[str] = (*header.inputs, *header.features, *header.outputs)
    if not header.pipeline:
        raise UnreadableError(f"{place}.pipeline is empty")
    if missing := sorted(set(known) - set(columns)):
        raise UnreadableError(f"{place}.batch lacks the columns {', '.join(missing)}")
