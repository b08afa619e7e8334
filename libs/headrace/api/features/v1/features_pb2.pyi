from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_PRESENT: _ClassVar[Source]
    SOURCE_NOT_FOUND: _ClassVar[Source]
    SOURCE_OUTSIDE_MAX_AGE: _ClassVar[Source]
    SOURCE_STALE: _ClassVar[Source]
    SOURCE_DEFAULT: _ClassVar[Source]
SOURCE_UNSPECIFIED: Source
SOURCE_PRESENT: Source
SOURCE_NOT_FOUND: Source
SOURCE_OUTSIDE_MAX_AGE: Source
SOURCE_STALE: Source
SOURCE_DEFAULT: Source

class ViewRule(_message.Message):
    __slots__ = ("view", "max_age_us", "stale_us")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_US_FIELD_NUMBER: _ClassVar[int]
    STALE_US_FIELD_NUMBER: _ClassVar[int]
    view: str
    max_age_us: int
    stale_us: int
    def __init__(self, view: _Optional[str] = ..., max_age_us: _Optional[int] = ..., stale_us: _Optional[int] = ...) -> None: ...

class GetFeaturesRequest(_message.Message):
    __slots__ = ("feature_service", "batch", "rules")
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    batch: _batch_pb2.Batch
    rules: _containers.RepeatedCompositeFieldContainer[ViewRule]
    def __init__(self, feature_service: _Optional[str] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[ViewRule, _Mapping]]] = ...) -> None: ...

class GetFeaturesResponse(_message.Message):
    __slots__ = ("batch", "plan_revision")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PLAN_REVISION_FIELD_NUMBER: _ClassVar[int]
    batch: _batch_pb2.Batch
    plan_revision: str
    def __init__(self, batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., plan_revision: _Optional[str] = ...) -> None: ...
