from headrace.api.monitoring.v1 import events_pb2 as _events_pb2
from headrace.api.monitoring.v1 import explanations_pb2 as _explanations_pb2
from headrace.api.monitoring.v1 import monitoring_pb2 as _monitoring_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportRequest(_message.Message):
    __slots__ = ("epoch", "tick", "exposures", "events", "explanations", "durable", "answered")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TICK_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    tick: _monitoring_pb2.TickReport
    exposures: _containers.RepeatedCompositeFieldContainer[_monitoring_pb2.Exposures]
    events: _events_pb2.EventReport
    explanations: _explanations_pb2.ExplanationReport
    durable: bool
    answered: _containers.RepeatedCompositeFieldContainer[AnsweredStream]
    def __init__(self, epoch: _Optional[int] = ..., tick: _Optional[_Union[_monitoring_pb2.TickReport, _Mapping]] = ..., exposures: _Optional[_Iterable[_Union[_monitoring_pb2.Exposures, _Mapping]]] = ..., events: _Optional[_Union[_events_pb2.EventReport, _Mapping]] = ..., explanations: _Optional[_Union[_explanations_pb2.ExplanationReport, _Mapping]] = ..., durable: _Optional[bool] = ..., answered: _Optional[_Iterable[_Union[AnsweredStream, _Mapping]]] = ...) -> None: ...

class AnsweredStream(_message.Message):
    __slots__ = ("epoch", "sequence")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    sequence: int
    def __init__(self, epoch: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("tick", "exposures", "events", "explanations")
    TICK_FIELD_NUMBER: _ClassVar[int]
    EXPOSURES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    tick: TickReceipt
    exposures: PartReceipt
    events: PartReceipt
    explanations: PartReceipt
    def __init__(self, tick: _Optional[_Union[TickReceipt, _Mapping]] = ..., exposures: _Optional[_Union[PartReceipt, _Mapping]] = ..., events: _Optional[_Union[PartReceipt, _Mapping]] = ..., explanations: _Optional[_Union[PartReceipt, _Mapping]] = ...) -> None: ...

class TickReceipt(_message.Message):
    __slots__ = ("behind", "live_router_count")
    BEHIND_FIELD_NUMBER: _ClassVar[int]
    LIVE_ROUTER_COUNT_FIELD_NUMBER: _ClassVar[int]
    behind: bool
    live_router_count: int
    def __init__(self, behind: _Optional[bool] = ..., live_router_count: _Optional[int] = ...) -> None: ...

class PartReceipt(_message.Message):
    __slots__ = ("stored_count", "dropped_count", "again", "problem")
    STORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    stored_count: int
    dropped_count: int
    again: bool
    problem: str
    def __init__(self, stored_count: _Optional[int] = ..., dropped_count: _Optional[int] = ..., again: _Optional[bool] = ..., problem: _Optional[str] = ...) -> None: ...
