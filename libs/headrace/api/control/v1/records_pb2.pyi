import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Position(_message.Message):
    __slots__ = ("epoch", "number", "head")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    number: int
    head: bytes
    def __init__(self, epoch: _Optional[int] = ..., number: _Optional[int] = ..., head: _Optional[bytes] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("kind", "name", "version", "number", "content")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    version: int
    number: int
    content: bytes
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., number: _Optional[int] = ..., content: _Optional[bytes] = ...) -> None: ...

class ReadRecordRequest(_message.Message):
    __slots__ = ("kind", "name", "version_count")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    version_count: int
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., version_count: _Optional[int] = ...) -> None: ...

class ReadRecordResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, versions: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class ListRecordsRequest(_message.Message):
    __slots__ = ("kind", "name_prefix", "after_name", "names_only")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_NAME_FIELD_NUMBER: _ClassVar[int]
    NAMES_ONLY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name_prefix: str
    after_name: str
    names_only: bool
    def __init__(self, kind: _Optional[str] = ..., name_prefix: _Optional[str] = ..., after_name: _Optional[str] = ..., names_only: _Optional[bool] = ...) -> None: ...

class ListRecordsResponse(_message.Message):
    __slots__ = ("records", "more")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[Record]
    more: bool
    def __init__(self, records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class RecordWrite(_message.Message):
    __slots__ = ("kind", "name", "content", "expected_version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    content: bytes
    expected_version: int
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., content: _Optional[bytes] = ..., expected_version: _Optional[int] = ...) -> None: ...

class LeaseToken(_message.Message):
    __slots__ = ("name", "token")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    token: str
    def __init__(self, name: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class ChangeRecordsRequest(_message.Message):
    __slots__ = ("change_id", "actor", "action", "subject", "reason", "details", "writes", "lease")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    WRITES_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    change_id: str
    actor: str
    action: str
    subject: str
    reason: str
    details: _containers.ScalarMap[str, str]
    writes: _containers.RepeatedCompositeFieldContainer[RecordWrite]
    lease: LeaseToken
    def __init__(self, change_id: _Optional[str] = ..., actor: _Optional[str] = ..., action: _Optional[str] = ..., subject: _Optional[str] = ..., reason: _Optional[str] = ..., details: _Optional[_Mapping[str, str]] = ..., writes: _Optional[_Iterable[_Union[RecordWrite, _Mapping]]] = ..., lease: _Optional[_Union[LeaseToken, _Mapping]] = ...) -> None: ...

class ChangeRecordsResponse(_message.Message):
    __slots__ = ("position", "records")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    position: Position
    records: _containers.RepeatedCompositeFieldContainer[Record]
    def __init__(self, position: _Optional[_Union[Position, _Mapping]] = ..., records: _Optional[_Iterable[_Union[Record, _Mapping]]] = ...) -> None: ...

class BeginEpochRequest(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ChangeRecordsRequest
    def __init__(self, change: _Optional[_Union[ChangeRecordsRequest, _Mapping]] = ...) -> None: ...

class BeginEpochResponse(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: Position
    def __init__(self, position: _Optional[_Union[Position, _Mapping]] = ...) -> None: ...

class TakeLeaseRequest(_message.Message):
    __slots__ = ("name", "holder", "token", "duration_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    holder: str
    token: str
    duration_ms: int
    def __init__(self, name: _Optional[str] = ..., holder: _Optional[str] = ..., token: _Optional[str] = ..., duration_ms: _Optional[int] = ...) -> None: ...

class TakeLeaseResponse(_message.Message):
    __slots__ = ("token", "holder")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    token: str
    holder: str
    def __init__(self, token: _Optional[str] = ..., holder: _Optional[str] = ...) -> None: ...

class GiveBackLeaseRequest(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseToken
    def __init__(self, lease: _Optional[_Union[LeaseToken, _Mapping]] = ...) -> None: ...

class GiveBackLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListAuditLinesRequest(_message.Message):
    __slots__ = ("after_number",)
    AFTER_NUMBER_FIELD_NUMBER: _ClassVar[int]
    after_number: int
    def __init__(self, after_number: _Optional[int] = ...) -> None: ...

class AuditLine(_message.Message):
    __slots__ = ("number", "line", "sha256")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    number: int
    line: bytes
    sha256: bytes
    def __init__(self, number: _Optional[int] = ..., line: _Optional[bytes] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class ListAuditLinesResponse(_message.Message):
    __slots__ = ("lines", "more")
    LINES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[AuditLine]
    more: bool
    def __init__(self, lines: _Optional[_Iterable[_Union[AuditLine, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class VerifyRecordsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AuditProblem(_message.Message):
    __slots__ = ("fault", "number", "text")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    fault: str
    number: int
    text: str
    def __init__(self, fault: _Optional[str] = ..., number: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class VerifyRecordsResponse(_message.Message):
    __slots__ = ("problems",)
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedCompositeFieldContainer[AuditProblem]
    def __init__(self, problems: _Optional[_Iterable[_Union[AuditProblem, _Mapping]]] = ...) -> None: ...

class ReadPositionRequest(_message.Message):
    __slots__ = ("known", "wait_ms")
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    known: Position
    wait_ms: int
    def __init__(self, known: _Optional[_Union[Position, _Mapping]] = ..., wait_ms: _Optional[int] = ...) -> None: ...

class ReadPositionResponse(_message.Message):
    __slots__ = ("position", "changed_at", "refuses_changes")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    REFUSES_CHANGES_FIELD_NUMBER: _ClassVar[int]
    position: Position
    changed_at: _timestamp_pb2.Timestamp
    refuses_changes: str
    def __init__(self, position: _Optional[_Union[Position, _Mapping]] = ..., changed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refuses_changes: _Optional[str] = ...) -> None: ...
