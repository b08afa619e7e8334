import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventReport(_message.Message):
    __slots__ = ("replica", "epoch", "noted_count", "groups")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NOTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    replica: str
    epoch: int
    noted_count: int
    groups: _containers.RepeatedCompositeFieldContainer[EventGroup]
    def __init__(self, replica: _Optional[str] = ..., epoch: _Optional[int] = ..., noted_count: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[EventGroup, _Mapping]]] = ...) -> None: ...

class EventGroup(_message.Message):
    __slots__ = ("pipeline", "version", "revision", "release", "arm", "experiment", "models", "fallbacks", "inputs", "features", "outputs", "masked", "omitted", "replayed", "shadow_of", "batch")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    MASKED_FIELD_NUMBER: _ClassVar[int]
    OMITTED_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    SHADOW_OF_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    version: int
    revision: str
    release: int
    arm: str
    experiment: str
    models: _containers.RepeatedCompositeFieldContainer[EventModel]
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    inputs: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.RepeatedScalarFieldContainer[str]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    masked: _containers.RepeatedScalarFieldContainer[str]
    omitted: _containers.RepeatedScalarFieldContainer[str]
    replayed: bool
    shadow_of: str
    batch: _batch_pb2.Batch
    def __init__(self, pipeline: _Optional[str] = ..., version: _Optional[int] = ..., revision: _Optional[str] = ..., release: _Optional[int] = ..., arm: _Optional[str] = ..., experiment: _Optional[str] = ..., models: _Optional[_Iterable[_Union[EventModel, _Mapping]]] = ..., fallbacks: _Optional[_Iterable[str]] = ..., inputs: _Optional[_Iterable[str]] = ..., features: _Optional[_Iterable[str]] = ..., outputs: _Optional[_Iterable[str]] = ..., masked: _Optional[_Iterable[str]] = ..., omitted: _Optional[_Iterable[str]] = ..., replayed: _Optional[bool] = ..., shadow_of: _Optional[str] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ...) -> None: ...

class EventModel(_message.Message):
    __slots__ = ("stage", "model", "version", "sha256")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    stage: str
    model: str
    version: str
    sha256: str
    def __init__(self, stage: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("prediction_id", "pipeline", "tenant", "request_id", "begin_time", "end_time", "limit")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    pipeline: str
    tenant: str
    request_id: str
    begin_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    limit: int
    def __init__(self, prediction_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., tenant: _Optional[str] = ..., request_id: _Optional[str] = ..., begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., limit: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "unreadable_segments")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    unreadable_segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., unreadable_segments: _Optional[_Iterable[str]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("prediction_id", "content_json", "event_id")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_JSON_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    content_json: str
    event_id: str
    def __init__(self, prediction_id: _Optional[str] = ..., content_json: _Optional[str] = ..., event_id: _Optional[str] = ...) -> None: ...

class ReadEventsRequest(_message.Message):
    __slots__ = ("chosen", "page")
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    PAGE_FIELD_NUMBER: _ClassVar[int]
    chosen: ListEventsRequest
    page: str
    def __init__(self, chosen: _Optional[_Union[ListEventsRequest, _Mapping]] = ..., page: _Optional[str] = ...) -> None: ...

class ReadEventsResponse(_message.Message):
    __slots__ = ("groups", "next_page", "unreadable_segments")
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    groups: _containers.RepeatedCompositeFieldContainer[EventGroup]
    next_page: str
    unreadable_segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, groups: _Optional[_Iterable[_Union[EventGroup, _Mapping]]] = ..., next_page: _Optional[str] = ..., unreadable_segments: _Optional[_Iterable[str]] = ...) -> None: ...

class EraseEventsRequest(_message.Message):
    __slots__ = ("tenant", "subjects", "request_ids", "whole_tenant")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SUBJECTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    subjects: _containers.RepeatedCompositeFieldContainer[EventSubject]
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    whole_tenant: bool
    def __init__(self, tenant: _Optional[str] = ..., subjects: _Optional[_Iterable[_Union[EventSubject, _Mapping]]] = ..., request_ids: _Optional[_Iterable[str]] = ..., whole_tenant: _Optional[bool] = ...) -> None: ...

class EventSubject(_message.Message):
    __slots__ = ("column", "value")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    column: str
    value: str
    def __init__(self, column: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class EraseEventsResponse(_message.Message):
    __slots__ = ("erased_count", "rewritten_segment_count", "unreadable_segments")
    ERASED_COUNT_FIELD_NUMBER: _ClassVar[int]
    REWRITTEN_SEGMENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    erased_count: int
    rewritten_segment_count: int
    unreadable_segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, erased_count: _Optional[int] = ..., rewritten_segment_count: _Optional[int] = ..., unreadable_segments: _Optional[_Iterable[str]] = ...) -> None: ...

class ListEventGapsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEventGapsResponse(_message.Message):
    __slots__ = ("streams",)
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    streams: _containers.RepeatedCompositeFieldContainer[EventStream]
    def __init__(self, streams: _Optional[_Iterable[_Union[EventStream, _Mapping]]] = ...) -> None: ...

class EventStream(_message.Message):
    __slots__ = ("replica", "epoch", "noted_count", "stored_count", "gaps")
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NOTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    STORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    replica: str
    epoch: int
    noted_count: int
    stored_count: int
    gaps: _containers.RepeatedCompositeFieldContainer[EventGap]
    def __init__(self, replica: _Optional[str] = ..., epoch: _Optional[int] = ..., noted_count: _Optional[int] = ..., stored_count: _Optional[int] = ..., gaps: _Optional[_Iterable[_Union[EventGap, _Mapping]]] = ...) -> None: ...

class EventGap(_message.Message):
    __slots__ = ("first", "last")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    first: int
    last: int
    def __init__(self, first: _Optional[int] = ..., last: _Optional[int] = ...) -> None: ...

class VerifyEventsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyEventsResponse(_message.Message):
    __slots__ = ("files", "problems")
    FILES_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[EventFile]
    problems: _containers.RepeatedCompositeFieldContainer[EventFileProblem]
    def __init__(self, files: _Optional[_Iterable[_Union[EventFile, _Mapping]]] = ..., problems: _Optional[_Iterable[_Union[EventFileProblem, _Mapping]]] = ...) -> None: ...

class EventFile(_message.Message):
    __slots__ = ("path", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ...) -> None: ...

class EventFileProblem(_message.Message):
    __slots__ = ("path", "problem")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    path: str
    problem: str
    def __init__(self, path: _Optional[str] = ..., problem: _Optional[str] = ...) -> None: ...
