from headrace.api.monitoring.v1 import monitoring_pb2 as _monitoring_pb2
from headrace.api.router.v1 import shadow_pb2 as _shadow_pb2
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
    __slots__ = ("reports", "router_count", "silent_router_count")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    ROUTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    SILENT_ROUTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[_shadow_pb2.ShadowReport]
    router_count: int
    silent_router_count: int
    def __init__(self, reports: _Optional[_Iterable[_Union[_shadow_pb2.ShadowReport, _Mapping]]] = ..., router_count: _Optional[int] = ..., silent_router_count: _Optional[int] = ...) -> None: ...

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
