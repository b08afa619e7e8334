from headrace.api.control.v1 import records_pb2 as _records_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("watcher", "service", "have", "page_after", "rejected", "wait_ms", "supports", "ready", "whole")
    WATCHER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    PAGE_AFTER_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTS_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    watcher: str
    service: str
    have: _records_pb2.Position
    page_after: int
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedResource]
    wait_ms: int
    supports: _containers.RepeatedScalarFieldContainer[str]
    ready: bool
    whole: bool
    def __init__(self, watcher: _Optional[str] = ..., service: _Optional[str] = ..., have: _Optional[_Union[_records_pb2.Position, _Mapping]] = ..., page_after: _Optional[int] = ..., rejected: _Optional[_Iterable[_Union[RejectedResource, _Mapping]]] = ..., wait_ms: _Optional[int] = ..., supports: _Optional[_Iterable[str]] = ..., ready: _Optional[bool] = ..., whole: _Optional[bool] = ...) -> None: ...

class RejectedResource(_message.Message):
    __slots__ = ("kind", "name", "sha256", "problem", "crashed", "pending")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    CRASHED_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    sha256: bytes
    problem: str
    crashed: bool
    pending: bool
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[bytes] = ..., problem: _Optional[str] = ..., crashed: _Optional[bool] = ..., pending: _Optional[bool] = ...) -> None: ...

class Resource(_message.Message):
    __slots__ = ("kind", "name", "sha256", "version", "content")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    sha256: bytes
    version: int
    content: bytes
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., sha256: _Optional[bytes] = ..., version: _Optional[int] = ..., content: _Optional[bytes] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("manifest", "signature", "resources", "whole", "page", "diverged", "may_apply", "rejected")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    MAY_APPLY_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    signature: bytes
    resources: _containers.RepeatedCompositeFieldContainer[Resource]
    whole: bool
    page: int
    diverged: str
    may_apply: bool
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedResource]
    def __init__(self, manifest: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., resources: _Optional[_Iterable[_Union[Resource, _Mapping]]] = ..., whole: _Optional[bool] = ..., page: _Optional[int] = ..., diverged: _Optional[str] = ..., may_apply: _Optional[bool] = ..., rejected: _Optional[_Iterable[_Union[RejectedResource, _Mapping]]] = ...) -> None: ...

class ListWatchersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Watcher(_message.Message):
    __slots__ = ("watcher", "service", "have", "age_s", "rejected", "ready", "diverged")
    WATCHER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    HAVE_FIELD_NUMBER: _ClassVar[int]
    AGE_S_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    watcher: str
    service: str
    have: _records_pb2.Position
    age_s: float
    rejected: _containers.RepeatedCompositeFieldContainer[RejectedResource]
    ready: bool
    diverged: bool
    def __init__(self, watcher: _Optional[str] = ..., service: _Optional[str] = ..., have: _Optional[_Union[_records_pb2.Position, _Mapping]] = ..., age_s: _Optional[float] = ..., rejected: _Optional[_Iterable[_Union[RejectedResource, _Mapping]]] = ..., ready: _Optional[bool] = ..., diverged: _Optional[bool] = ...) -> None: ...

class ListWatchersResponse(_message.Message):
    __slots__ = ("watchers", "position")
    WATCHERS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    watchers: _containers.RepeatedCompositeFieldContainer[Watcher]
    position: _records_pb2.Position
    def __init__(self, watchers: _Optional[_Iterable[_Union[Watcher, _Mapping]]] = ..., position: _Optional[_Union[_records_pb2.Position, _Mapping]] = ...) -> None: ...
