"""Ticks and exposures ⇄ messages. Histograms travel without the zeros at their end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.ticks.bins import LATENCY_BUCKETS
from headrace.ticks.tick import ArmFigures, ArmName, AssignedFigures, Exposure, Tick

T = TypeVar("T")
_NOTHING_ASSIGNED = AssignedFigures()


class UnreadableError(Exception):
    """The message is no tick, or holds no exposures. The text names the field."""


def write(tick: Tick) -> pb.TickReport:
    """The message of a tick; its epoch travels beside it."""
    message = pb.TickReport(sequence=tick.sequence, base_sequence=tick.base)
    for name, figures in tick.arms.items():
        arm = message.arms.add(
            pipeline=name.pipeline, release=name.release, arm=name.arm, by_rule=name.by_rule
        )
        arm.row_count, arm.error_row_count = figures.rows, figures.errors
        if (units := figures.assigned) != _NOTHING_ASSIGNED:
            arm.assigned.CopyFrom(_written(units))
        arm.latency_counts.extend(_cut(figures.latency))
    return message


def read(epoch: int, message: pb.TickReport) -> Tick:
    """The tick of a message. Raises UnreadableError."""
    if not epoch or not message.sequence:
        raise UnreadableError("epoch and sequence must be set")
    return Tick(
        epoch,
        message.sequence,
        message.base_sequence,
        {ArmName(arm.pipeline, arm.release, arm.arm, arm.by_rule): _figures(arm) for arm in message.arms},
    )


def write_exposures(exposures: Iterable[Exposure]) -> list[pb.Exposures]:
    """The messages of exposures: one for those of an arm that come one after the other."""
    return [_written_exposures(arm, list(those)) for arm, those in groupby(exposures, lambda e: e.arm)]


def read_exposures(messages: Iterable[pb.Exposures]) -> list[Exposure]:
    """The exposures of messages. Raises UnreadableError."""
    return [exposure for group in messages for exposure in _exposures(group)]


def _figures(arm: pb.ArmCounts) -> ArmFigures:
    latency = _filled(arm.latency_counts, LATENCY_BUCKETS, "latency_counts")
    return ArmFigures(arm.row_count, arm.error_row_count, latency, _assigned(arm.assigned))


def _written(units: AssignedFigures) -> pb.AssignedCounts:
    return pb.AssignedCounts(
        request_count=units.requests,
        bad_request_count=units.bad_requests,
        new_key_count=units.new_keys,
        fresh_row_count=units.fresh_rows,
        fresh_bad_key_count=units.fresh_bad,
        answer_latency_counts=_cut(units.answers),
        saturated=units.saturated,
    )


def _assigned(counts: pb.AssignedCounts) -> AssignedFigures:
    answers = counts.answer_latency_counts
    return AssignedFigures(
        counts.request_count,
        counts.bad_request_count,
        counts.new_key_count,
        counts.fresh_row_count,
        counts.fresh_bad_key_count,
        _filled(answers, LATENCY_BUCKETS, "answer_latency_counts") if answers else (),
        counts.saturated,
    )


def _written_exposures(arm: ArmName, exposures: Sequence[Exposure]) -> pb.Exposures:
    group = pb.Exposures(pipeline=arm.pipeline, release=arm.release, arm=arm.arm)
    group.tenants.extend(e.tenant for e in exposures)
    group.request_ids.extend(e.request_id for e in exposures)
    group.rows.extend(e.row for e in exposures)
    if any(e.key is not None for e in exposures):
        # 0 stands for none; a key that is 0 becomes 1.
        group.keys.extend(0 if e.key is None else e.key or 1 for e in exposures)
    for name in dict.fromkeys(name for e in exposures for name in e.labels):
        group.labels.add(name=name, values=[e.labels.get(name, math.nan) for e in exposures])
    return group


def _exposures(group: pb.Exposures) -> Iterator[Exposure]:
    count, arm = len(group.request_ids), ArmName(group.pipeline, group.release, group.arm)
    lists: Iterable[Sequence[object]] = (
        group.tenants,
        group.rows,
        *(column.values for column in group.labels),
    )
    if any(len(values) != count for values in lists) or len(group.keys) not in (0, count):
        raise UnreadableError("the lists of `exposures` differ in length")
    keys: Sequence[int | None] = [key or None for key in group.keys] or [None] * count
    columns = [(column.name, list(column.values)) for column in group.labels]
    for i, (tenant, request, row, key) in enumerate(
        zip(group.tenants, group.request_ids, group.rows, keys, strict=True)
    ):
        labels = {name: values[i] for name, values in columns if not math.isnan(values[i])}
        yield Exposure(arm, tenant, request, row, key, labels)


def _cut(counts: Sequence[int]) -> Sequence[int]:
    end = len(counts)
    while end and not counts[end - 1]:
        end -= 1
    return counts[:end]


def _filled(counts: Sequence[int], length: int, what: str) -> tuple[int, ...]:
    if len(counts) > length:
        raise UnreadableError(f"{what}: {len(counts)} buckets, there are {length}")
    return (*counts, *(0,) * (length - len(counts)))
