"""Records, changes and positions as messages of `headrace.api.control.v1`, and back."""

from __future__ import annotations

from headrace.api.control.v1 import records_pb2 as pb
from headrace.audit.chain import AuditLine
from headrace.catalog.access import Change, LeaseToken, Made, Position, Record, Write


def position_message(position: Position) -> pb.Position:
    """Of a position that is known."""
    return pb.Position(epoch=position.epoch, number=position.number, head=position.head)


def position_of(message: pb.Position) -> Position:
    """Inverse of `position_message`."""
    return Position(message.epoch, message.number, message.head)


def record_message(record: Record) -> pb.Record:
    """`content` None is absent."""
    return pb.Record(
        kind=record.kind,
        name=record.name,
        version=record.version,
        number=record.number,
        content=record.content,
    )


def record_of(message: pb.Record) -> Record:
    """Inverse of `record_message`."""
    content = message.content if message.HasField("content") else None
    return Record(message.kind, message.name, message.version, message.number, content)


def change_message(change: Change) -> pb.ChangeRecordsRequest:
    """The whole change."""
    message = pb.ChangeRecordsRequest(
        change_id=change.id,
        actor=change.actor,
        action=change.action,
        subject=change.subject,
        reason=change.reason,
        details=dict(change.details),
        writes=[_write_message(write) for write in change.writes],
    )
    if change.lease is not None:
        message.lease.CopyFrom(lease_message(change.lease))
    return message


def change_of(message: pb.ChangeRecordsRequest) -> Change:
    """Inverse of `change_message`."""
    return Change(
        message.actor,
        message.action,
        message.subject,
        tuple(_write_of(write) for write in message.writes),
        message.reason,
        dict(message.details),
        lease_of(message.lease) if message.HasField("lease") else None,
        id=message.change_id,
    )


def made_message(made: Made) -> pb.ChangeRecordsResponse:
    """What a change made."""
    return pb.ChangeRecordsResponse(
        position=position_message(made.position), records=map(record_message, made.records)
    )


def made_of(message: pb.ChangeRecordsResponse) -> Made:
    """Inverse of `made_message`."""
    return Made(position_of(message.position), tuple(map(record_of, message.records)))


def lease_message(lease: LeaseToken) -> pb.LeaseToken:
    """Of a lease that is held."""
    return pb.LeaseToken(name=lease.name, token=lease.token)


def lease_of(message: pb.LeaseToken) -> LeaseToken:
    """Inverse of `lease_message`."""
    return LeaseToken(message.name, message.token)


def line_message(line: AuditLine) -> pb.AuditLine:
    """Of one line of the audit."""
    return pb.AuditLine(number=line.number, line=line.line, sha256=line.sha256)


def line_of(message: pb.AuditLine) -> AuditLine:
    """Inverse of `line_message`."""
    return AuditLine(message.number, message.line, message.sha256)


def _write_message(write: Write) -> pb.RecordWrite:
    return pb.RecordWrite(
        kind=write.kind, name=write.name, content=write.content, expected_version=write.expected
    )


def _write_of(message: pb.RecordWrite) -> Write:
    content = message.content if message.HasField("content") else None
    expected = message.expected_version if message.HasField("expected_version") else None
    return Write(message.kind, message.name, content, expected)
