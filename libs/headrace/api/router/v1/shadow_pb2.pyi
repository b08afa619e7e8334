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
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    def __init__(self, pipeline: _Optional[str] = ...) -> None: ...

class GetShadowReportResponse(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[ShadowReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[ShadowReport, _Mapping]]] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("pipeline", "release", "arm", "against", "epoch", "began_time", "both_answered_count", "shadow_failed_count", "live_failed_count", "both_failed_count", "outputs", "live_seconds", "shadow_seconds", "worst", "dropped_rows", "shadow_errors")
    class DroppedRowsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
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
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BEGAN_TIME_FIELD_NUMBER: _ClassVar[int]
    BOTH_ANSWERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    BOTH_FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LIVE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WORST_FIELD_NUMBER: _ClassVar[int]
    DROPPED_ROWS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_ERRORS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    release: int
    arm: str
    against: str
    epoch: str
    began_time: _timestamp_pb2.Timestamp
    both_answered_count: int
    shadow_failed_count: int
    live_failed_count: int
    both_failed_count: int
    outputs: _containers.RepeatedCompositeFieldContainer[OutputComparison]
    live_seconds: QuantileSketch
    shadow_seconds: QuantileSketch
    worst: _containers.RepeatedCompositeFieldContainer[DifferentRow]
    dropped_rows: _containers.ScalarMap[str, int]
    shadow_errors: _containers.ScalarMap[str, int]
    def __init__(self, pipeline: _Optional[str] = ..., release: _Optional[int] = ..., arm: _Optional[str] = ..., against: _Optional[str] = ..., epoch: _Optional[str] = ..., began_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., both_answered_count: _Optional[int] = ..., shadow_failed_count: _Optional[int] = ..., live_failed_count: _Optional[int] = ..., both_failed_count: _Optional[int] = ..., outputs: _Optional[_Iterable[_Union[OutputComparison, _Mapping]]] = ..., live_seconds: _Optional[_Union[QuantileSketch, _Mapping]] = ..., shadow_seconds: _Optional[_Union[QuantileSketch, _Mapping]] = ..., worst: _Optional[_Iterable[_Union[DifferentRow, _Mapping]]] = ..., dropped_rows: _Optional[_Mapping[str, int]] = ..., shadow_errors: _Optional[_Mapping[str, int]] = ...) -> None: ...

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
    deltas: QuantileSketch
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[_batch_pb2.DataType, str]] = ..., row_count: _Optional[int] = ..., equal_count: _Optional[int] = ..., live_true_count: _Optional[int] = ..., shadow_true_count: _Optional[int] = ..., deltas: _Optional[_Union[QuantileSketch, _Mapping]] = ...) -> None: ...

class QuantileSketch(_message.Message):
    __slots__ = ("buckets", "zero_count", "infinite_count", "sum", "max")
    class BucketsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: int
        def __init__(self, key: _Optional[int] = ..., value: _Optional[int] = ...) -> None: ...
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    ZERO_COUNT_FIELD_NUMBER: _ClassVar[int]
    INFINITE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SUM_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    buckets: _containers.ScalarMap[int, int]
    zero_count: int
    infinite_count: int
    sum: float
    max: float
    def __init__(self, buckets: _Optional[_Mapping[int, int]] = ..., zero_count: _Optional[int] = ..., infinite_count: _Optional[int] = ..., sum: _Optional[float] = ..., max: _Optional[float] = ...) -> None: ...

class DifferentRow(_message.Message):
    __slots__ = ("request_id", "row", "score", "values", "shadow_error", "inputs", "left_out")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    SHADOW_ERROR_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    row: int
    score: float
    values: _containers.RepeatedCompositeFieldContainer[DifferentValue]
    shadow_error: str
    inputs: _batch_pb2.Batch
    left_out: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, request_id: _Optional[str] = ..., row: _Optional[int] = ..., score: _Optional[float] = ..., values: _Optional[_Iterable[_Union[DifferentValue, _Mapping]]] = ..., shadow_error: _Optional[str] = ..., inputs: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., left_out: _Optional[_Iterable[str]] = ...) -> None: ...

class DifferentValue(_message.Message):
    __slots__ = ("output", "live", "shadow")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    output: str
    live: str
    shadow: str
    def __init__(self, output: _Optional[str] = ..., live: _Optional[str] = ..., shadow: _Optional[str] = ...) -> None: ...
