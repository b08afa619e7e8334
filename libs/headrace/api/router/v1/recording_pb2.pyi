import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from headrace.api.router.v1 import router_pb2 as _router_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordedBatch(_message.Message):
    __slots__ = ("pipeline", "recorded_time", "inputs", "features", "answer", "redacted")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    RECORDED_TIME_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    REDACTED_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    recorded_time: _timestamp_pb2.Timestamp
    inputs: _batch_pb2.Batch
    features: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Column]
    answer: _router_pb2.InferResponse
    redacted: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pipeline: _Optional[str] = ..., recorded_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., inputs: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., features: _Optional[_Iterable[_Union[_batch_pb2.Column, _Mapping]]] = ..., answer: _Optional[_Union[_router_pb2.InferResponse, _Mapping]] = ..., redacted: _Optional[_Iterable[str]] = ...) -> None: ...
