import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetShadowReportRequest(_message.Message):
    __slots__ = ("pipeline", "begin_time")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    begin_time: _timestamp_pb2.Timestamp
    def __init__(self, pipeline: _Optional[str] = ..., begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetShadowReportResponse(_message.Message):
    __slots__ = ("reports", "unreadable_files")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FILES_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[ShadowReport]
    unreadable_files: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reports: _Optional[_Iterable[_Union[ShadowReport, _Mapping]]] = ..., unreadable_files: _Optional[_Iterable[str]] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("pipeline", "release", "arm", "against", "begin_time", "both_answered_count", "shadow_failed_count", "live_failed_count", "both_failed_count", "outputs", "live_seconds", "shadow_seconds", "live_busy_seconds", "shadow_busy_seconds", "worst", "shadow_errors")
    class ShadowErrorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    BOTH_ANSWERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    BOTH_FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LIVE_BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_BUSY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WORST_FIELD_NUMBER: _ClassVar[int]
    SHADOW_ERRORS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    release: int
    arm: str
    against: str
    begin_time: _timestamp_pb2.Timestamp
    both_answered_count: int
    shadow_failed_count: int
    live_failed_count: int
    both_failed_count: int
    outputs: _containers.RepeatedCompositeFieldContainer[OutputComparison]
    live_seconds: Quantiles
    shadow_seconds: Quantiles
    live_busy_seconds: float
    shadow_busy_seconds: float
    worst: _containers.RepeatedCompositeFieldContainer[DifferentRow]
    shadow_errors: _containers.ScalarMap[str, int]
    def __init__(self, pipeline: _Optional[str] = ..., release: _Optional[int] = ..., arm: _Optional[str] = ..., against: _Optional[str] = ..., begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., both_answered_count: _Optional[int] = ..., shadow_failed_count: _Optional[int] = ..., live_failed_count: _Optional[int] = ..., both_failed_count: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[OutputComparison, _Mapping]]] = ..., live_seconds: _Optional[_Union[Quantiles, _Mapping]] = ..., shadow_seconds: _Optional[_Union[Quantiles, _Mapping]] = ..., live_busy_seconds: _Optional[float] = ..., shadow_busy_seconds: _Optional[float] = ..., worst: _Optional[_Iterable[_Union[DifferentRow, _Mapping]]] = ..., shadow_errors: _Optional[_Mapping[str, int]] = ...) -> None: ...

class OutputComparison(_message.Message):
    __slots__ = ("name", "data_type", "row_count", "equal_count", "live_true_count", "shadow_true_count", "deltas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    EQUAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIVE_TRUE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_TRUE_COUNT_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: _batch_pb2.DataType
    row_count: int
    equal_count: int
    live_true_count: int
    shadow_true_count: int
    deltas: Quantiles
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[_batch_pb2.DataType, str]] = ..., row_count: _Optional[int] = ..., equal_count: _Optional[int] = ..., live_true_count: _Optional[int] = ..., shadow_true_count: _Optional[int] = ..., deltas: _Optional[_Union[Quantiles, _Mapping]] = ...) -> None: ...

class Quantiles(_message.Message):
    __slots__ = ("value_count", "p50", "p90", "p99", "max")
    VALUE_COUNT_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P90_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    value_count: int
    p50: float
    p90: float
    p99: float
    max: float
    def __init__(self, value_count: _Optional[int] = ..., p50: _Optional[float] = ..., p90: _Optional[float] = ..., p99: _Optional[float] = ..., max: _Optional[float] = ...) -> None: ...

class DifferentRow(_message.Message):
    __slots__ = ("prediction_id", "score", "values", "shadow_error")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SHADOW_ERROR_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    score: float
    values: _containers.RepeatedCompositeFieldContainer[DifferentValue]
    shadow_error: str
    def __init__(self, prediction_id: _Optional[str] = ..., score: _Optional[float] = ..., values: _Optional[_Iterable[_Union[DifferentValue, _Mapping]]] = ..., shadow_error: _Optional[str] = ...) -> None: ...

class DifferentValue(_message.Message):
    __slots__ = ("output", "live", "shadow")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    output: str
    live: str
    shadow: str
    def __init__(self, output: _Optional[str] = ..., live: _Optional[str] = ..., shadow: _Optional[str] = ...) -> None: ...
