import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.monitoring.v1 import monitoring_pb2 as _monitoring_pb2
from headrace.api.monitoring.v1 import shadow_pb2 as _shadow_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
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
    __slots__ = ("shadow",)
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    shadow: _shadow_pb2.GetShadowReportResponse
    def __init__(self, shadow: _Optional[_Union[_shadow_pb2.GetShadowReportResponse, _Mapping]] = ...) -> None: ...

class GetRolloutRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    def __init__(self, pipeline: _Optional[str] = ...) -> None: ...

class GetRolloutResponse(_message.Message):
    __slots__ = ("rollout",)
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    rollout: _monitoring_pb2.GetRolloutResponse
    def __init__(self, rollout: _Optional[_Union[_monitoring_pb2.GetRolloutResponse, _Mapping]] = ...) -> None: ...

class ReadExperimentRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    def __init__(self, pipeline: _Optional[str] = ...) -> None: ...

class ReadExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: _monitoring_pb2.ReadExperimentResponse
    def __init__(self, experiment: _Optional[_Union[_monitoring_pb2.ReadExperimentResponse, _Mapping]] = ...) -> None: ...
