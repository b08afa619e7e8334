from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("pipeline", "revision", "output", "batch", "seeds", "rows_json", "tenant", "request_id")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    ROWS_JSON_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    revision: str
    output: str
    batch: _batch_pb2.Batch
    seeds: _containers.RepeatedScalarFieldContainer[bytes]
    rows_json: _containers.RepeatedScalarFieldContainer[str]
    tenant: str
    request_id: str
    def __init__(self, pipeline: _Optional[str] = ..., revision: _Optional[str] = ..., output: _Optional[str] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., seeds: _Optional[_Iterable[bytes]] = ..., rows_json: _Optional[_Iterable[str]] = ..., tenant: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[RowExplanation]
    def __init__(self, rows: _Optional[_Iterable[_Union[RowExplanation, _Mapping]]] = ...) -> None: ...

class RowExplanation(_message.Message):
    __slots__ = ("output", "base", "value", "exact", "coalition_count", "contributions", "revision")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    COALITION_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    output: str
    base: float
    value: float
    exact: bool
    coalition_count: int
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    revision: str
    def __init__(self, output: _Optional[str] = ..., base: _Optional[float] = ..., value: _Optional[float] = ..., exact: _Optional[bool] = ..., coalition_count: _Optional[int] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., revision: _Optional[str] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("column", "contribution", "standard_error", "base_source", "base_json", "value_json")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    BASE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    BASE_JSON_FIELD_NUMBER: _ClassVar[int]
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    column: str
    contribution: float
    standard_error: float
    base_source: str
    base_json: str
    value_json: str
    def __init__(self, column: _Optional[str] = ..., contribution: _Optional[float] = ..., standard_error: _Optional[float] = ..., base_source: _Optional[str] = ..., base_json: _Optional[str] = ..., value_json: _Optional[str] = ...) -> None: ...
