import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReadAccuracyRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    def __init__(self, pipeline: _Optional[str] = ...) -> None: ...

class ReadAccuracyResponse(_message.Message):
    __slots__ = ("versions", "coverage_wanted")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_WANTED_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[VersionAccuracy]
    coverage_wanted: float
    def __init__(self, versions: _Optional[_Iterable[_Union[VersionAccuracy, _Mapping]]] = ..., coverage_wanted: _Optional[float] = ...) -> None: ...

class VersionAccuracy(_message.Message):
    __slots__ = ("pipeline", "version", "prediction_count", "label_count", "coverage", "accuracy", "judged_count", "wrong_count", "told_window_count", "window_count", "expected_accuracy", "delay_p50", "delay_p90", "delay_p99", "contradiction_count")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    LABEL_COUNT_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    JUDGED_COUNT_FIELD_NUMBER: _ClassVar[int]
    WRONG_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOLD_WINDOW_COUNT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    DELAY_P50_FIELD_NUMBER: _ClassVar[int]
    DELAY_P90_FIELD_NUMBER: _ClassVar[int]
    DELAY_P99_FIELD_NUMBER: _ClassVar[int]
    CONTRADICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    version: str
    prediction_count: int
    label_count: int
    coverage: float
    accuracy: float
    judged_count: int
    wrong_count: int
    told_window_count: int
    window_count: int
    expected_accuracy: float
    delay_p50: _duration_pb2.Duration
    delay_p90: _duration_pb2.Duration
    delay_p99: _duration_pb2.Duration
    contradiction_count: int
    def __init__(self, pipeline: _Optional[str] = ..., version: _Optional[str] = ..., prediction_count: _Optional[int] = ..., label_count: _Optional[int] = ..., coverage: _Optional[float] = ..., accuracy: _Optional[float] = ..., judged_count: _Optional[int] = ..., wrong_count: _Optional[int] = ..., told_window_count: _Optional[int] = ..., window_count: _Optional[int] = ..., expected_accuracy: _Optional[float] = ..., delay_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., delay_p90: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., delay_p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., contradiction_count: _Optional[int] = ...) -> None: ...
