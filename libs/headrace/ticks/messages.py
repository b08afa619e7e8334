"""Ticks ⇄ messages. Histograms travel without the zeros at their end."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.api.monitoring.v1 import monitoring_pb2 as pb
from headrace.ticks.bins import LATENCY_BUCKETS
from headrace.ticks.tick import ArmFigures, ArmName, AssignedFigures, Tick

_NOTHING_ASSIGNED = AssignedFigures()


class UnreadableError(Exception):
    """The message is no tick. The text names the field."""


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


def _cut(counts: Sequence[int]) -> Sequence[int]:
    end = len(counts)
    while end and not counts[end - 1]:
        end -= 1
    return counts[:end]


def _filled(counts: Sequence[int], length: int, what: str) -> tuple[int, ...]:
    if len(counts) > length:
        raise UnreadableError(f"{what}: {len(counts)} buckets, there are {length}")
    return (*counts, *(0,) * (length - len(counts)))
