import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from headrace.api.errors.v1 import errors_pb2 as _errors_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PredictRequest(_message.Message):
    __slots__ = ("pipeline", "version", "request_id", "rows", "columns", "row_count", "priority")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    version: int
    request_id: str
    rows: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    columns: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Column]
    row_count: int
    priority: int
    def __init__(self, pipeline: _Optional[str] = ..., version: _Optional[int] = ..., request_id: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[_batch_pb2.Column, _Mapping]]] = ..., row_count: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("request_id", "pipeline", "version", "revision", "models", "predictions", "columns", "errors", "trace_id", "decisions")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pipeline: str
    version: int
    revision: str
    models: _containers.RepeatedCompositeFieldContainer[ModelUse]
    predictions: _containers.RepeatedCompositeFieldContainer[Prediction]
    columns: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Column]
    errors: _containers.RepeatedCompositeFieldContainer[_batch_pb2.RowError]
    trace_id: str
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    def __init__(self, request_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., version: _Optional[int] = ..., revision: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ModelUse, _Mapping]]] = ..., predictions: _Optional[_Iterable[_Union[Prediction, _Mapping]]] = ..., columns: _Optional[_Iterable[_Union[_batch_pb2.Column, _Mapping]]] = ..., errors: _Optional[_Iterable[_Union[_batch_pb2.RowError, _Mapping]]] = ..., trace_id: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("arm", "version", "revision", "release", "rule", "sticky", "models")
    ARM_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    arm: str
    version: int
    revision: str
    release: int
    rule: str
    sticky: bool
    models: _containers.RepeatedCompositeFieldContainer[ModelUse]
    def __init__(self, arm: _Optional[str] = ..., version: _Optional[int] = ..., revision: _Optional[str] = ..., release: _Optional[int] = ..., rule: _Optional[str] = ..., sticky: _Optional[bool] = ..., models: _Optional[_Iterable[_Union[ModelUse, _Mapping]]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("outputs", "fallbacks", "features", "error", "decision", "cached_age_ms")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: FeatureAge
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[FeatureAge, _Mapping]] = ...) -> None: ...
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    CACHED_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    outputs: _struct_pb2.Struct
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.MessageMap[str, FeatureAge]
    error: PredictionError
    decision: int
    cached_age_ms: int
    def __init__(self, outputs: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., fallbacks: _Optional[_Iterable[str]] = ..., features: _Optional[_Mapping[str, FeatureAge]] = ..., error: _Optional[_Union[PredictionError, _Mapping]] = ..., decision: _Optional[int] = ..., cached_age_ms: _Optional[int] = ...) -> None: ...

class FeatureAge(_message.Message):
    __slots__ = ("source", "age_ms")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    source: str
    age_ms: int
    def __init__(self, source: _Optional[str] = ..., age_ms: _Optional[int] = ...) -> None: ...

class PredictionError(_message.Message):
    __slots__ = ("code", "reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: _errors_pb2.Reason
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[_Union[_errors_pb2.Reason, str]] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ModelUse(_message.Message):
    __slots__ = ("model", "version", "sha256", "stage", "backend", "standby", "cold_start")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    STANDBY_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    sha256: str
    stage: str
    backend: str
    standby: bool
    cold_start: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ..., stage: _Optional[str] = ..., backend: _Optional[str] = ..., standby: _Optional[bool] = ..., cold_start: _Optional[bool] = ...) -> None: ...

class ListPipelinesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPipelinesResponse(_message.Message):
    __slots__ = ("pipelines",)
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    pipelines: _containers.RepeatedCompositeFieldContainer[Pipeline]
    def __init__(self, pipelines: _Optional[_Iterable[_Union[Pipeline, _Mapping]]] = ...) -> None: ...

class Pipeline(_message.Message):
    __slots__ = ("name", "version", "revision", "description", "inputs", "outputs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    revision: str
    description: str
    inputs: _containers.RepeatedCompositeFieldContainer[Field]
    outputs: _containers.RepeatedCompositeFieldContainer[Field]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., revision: _Optional[str] = ..., description: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Field, _Mapping]]] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "data_type", "row_shape", "optional", "description")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    ROW_SHAPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: _batch_pb2.DataType
    row_shape: _containers.RepeatedScalarFieldContainer[int]
    optional: bool
    description: str
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[_batch_pb2.DataType, str]] = ..., row_shape: _Optional[_Iterable[int]] = ..., optional: _Optional[bool] = ..., description: _Optional[str] = ...) -> None: ...

class RecordOutcomesRequest(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("request_id", "row", "name", "label", "number", "time")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    row: int
    name: str
    label: bool
    number: float
    time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., row: _Optional[int] = ..., name: _Optional[str] = ..., label: _Optional[bool] = ..., number: _Optional[float] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordOutcomesResponse(_message.Message):
    __slots__ = ("accepted_count", "unknown_count")
    ACCEPTED_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_COUNT_FIELD_NUMBER: _ClassVar[int]
    accepted_count: int
    unknown_count: int
    def __init__(self, accepted_count: _Optional[int] = ..., unknown_count: _Optional[int] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("pipeline", "request_id", "rows", "output")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    request_id: str
    rows: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    output: str
    def __init__(self, pipeline: _Optional[str] = ..., request_id: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., output: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("request_id", "pipeline", "rows")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    pipeline: str
    rows: _containers.RepeatedCompositeFieldContainer[RowExplanation]
    def __init__(self, request_id: _Optional[str] = ..., pipeline: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[RowExplanation, _Mapping]]] = ...) -> None: ...

class RowExplanation(_message.Message):
    __slots__ = ("output", "base", "value", "exact", "contributions", "revision")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    output: str
    base: float
    value: float
    exact: bool
    contributions: _containers.RepeatedCompositeFieldContainer[ColumnContribution]
    revision: str
    def __init__(self, output: _Optional[str] = ..., base: _Optional[float] = ..., value: _Optional[float] = ..., exact: _Optional[bool] = ..., contributions: _Optional[_Iterable[_Union[ColumnContribution, _Mapping]]] = ..., revision: _Optional[str] = ...) -> None: ...

class ColumnContribution(_message.Message):
    __slots__ = ("column", "contribution", "standard_error")
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    column: str
    contribution: float
    standard_error: float
    def __init__(self, column: _Optional[str] = ..., contribution: _Optional[float] = ..., standard_error: _Optional[float] = ...) -> None: ...
