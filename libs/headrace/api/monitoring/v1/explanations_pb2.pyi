import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplanationReport(_message.Message):
    __slots__ = ("explanations", "works", "number")
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    WORKS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    works: _containers.RepeatedCompositeFieldContainer[ExplanationWork]
    number: int
    def __init__(self, explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., works: _Optional[_Iterable[_Union[ExplanationWork, _Mapping]]] = ..., number: _Optional[int] = ...) -> None: ...

class ExplanationWork(_message.Message):
    __slots__ = ("tenant", "pipeline", "explanation_count", "row_count", "busy_us")
    class BusyUsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    BUSY_US_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    pipeline: str
    explanation_count: int
    row_count: int
    busy_us: _containers.ScalarMap[str, float]
    def __init__(self, tenant: _Optional[str] = ..., pipeline: _Optional[str] = ..., explanation_count: _Optional[int] = ..., row_count: _Optional[int] = ..., busy_us: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("prediction_id", "tenant", "pipeline", "revision", "arm", "output", "base", "value", "exact", "columns", "contributions", "standard_errors", "base_sources")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERRORS_FIELD_NUMBER: _ClassVar[int]
    BASE_SOURCES_FIELD_NUMBER: _ClassVar[int]
    prediction_id: bytes
    tenant: str
    pipeline: str
    revision: str
    arm: str
    output: str
    base: float
    value: float
    exact: bool
    columns: _containers.RepeatedScalarFieldContainer[str]
    contributions: _containers.RepeatedScalarFieldContainer[float]
    standard_errors: _containers.RepeatedScalarFieldContainer[float]
    base_sources: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, prediction_id: _Optional[bytes] = ..., tenant: _Optional[str] = ..., pipeline: _Optional[str] = ..., revision: _Optional[str] = ..., arm: _Optional[str] = ..., output: _Optional[str] = ..., base: _Optional[float] = ..., value: _Optional[float] = ..., exact: _Optional[bool] = ..., columns: _Optional[_Iterable[str]] = ..., contributions: _Optional[_Iterable[float]] = ..., standard_errors: _Optional[_Iterable[float]] = ..., base_sources: _Optional[_Iterable[str]] = ...) -> None: ...

class GetExplanationRequest(_message.Message):
    __slots__ = ("prediction_id",)
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    def __init__(self, prediction_id: _Optional[str] = ...) -> None: ...

class GetExplanationResponse(_message.Message):
    __slots__ = ("explanation", "values_json", "stored_time")
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    VALUES_JSON_FIELD_NUMBER: _ClassVar[int]
    STORED_TIME_FIELD_NUMBER: _ClassVar[int]
    explanation: Explanation
    values_json: _containers.RepeatedScalarFieldContainer[str]
    stored_time: _timestamp_pb2.Timestamp
    def __init__(self, explanation: _Optional[_Union[Explanation, _Mapping]] = ..., values_json: _Optional[_Iterable[str]] = ..., stored_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetBiasSlicesRequest(_message.Message):
    __slots__ = ("pipeline", "column", "output", "begin_time", "least_group")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    BEGIN_TIME_FIELD_NUMBER: _ClassVar[int]
    LEAST_GROUP_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    column: str
    output: str
    begin_time: _timestamp_pb2.Timestamp
    least_group: int
    def __init__(self, pipeline: _Optional[str] = ..., column: _Optional[str] = ..., output: _Optional[str] = ..., begin_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., least_group: _Optional[int] = ...) -> None: ...

class GetBiasSlicesResponse(_message.Message):
    __slots__ = ("output", "slices", "prediction_count", "truncated")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    output: str
    slices: _containers.RepeatedCompositeFieldContainer[BiasSlice]
    prediction_count: int
    truncated: bool
    def __init__(self, output: _Optional[str] = ..., slices: _Optional[_Iterable[_Union[BiasSlice, _Mapping]]] = ..., prediction_count: _Optional[int] = ..., truncated: _Optional[bool] = ...) -> None: ...

class BiasSlice(_message.Message):
    __slots__ = ("group", "group_count", "output", "wrong", "contribution")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    GROUP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    group: str
    group_count: int
    output: BiasMean
    wrong: BiasMean
    contribution: BiasMean
    def __init__(self, group: _Optional[str] = ..., group_count: _Optional[int] = ..., output: _Optional[_Union[BiasMean, _Mapping]] = ..., wrong: _Optional[_Union[BiasMean, _Mapping]] = ..., contribution: _Optional[_Union[BiasMean, _Mapping]] = ...) -> None: ...

class BiasMean(_message.Message):
    __slots__ = ("prediction_count", "mean", "low", "high")
    PREDICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    prediction_count: int
    mean: float
    low: float
    high: float
    def __init__(self, prediction_count: _Optional[int] = ..., mean: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class GetExplanationCoverageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetExplanationCoverageResponse(_message.Message):
    __slots__ = ("pipelines",)
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    pipelines: _containers.RepeatedCompositeFieldContainer[ExplanationCoverage]
    def __init__(self, pipelines: _Optional[_Iterable[_Union[ExplanationCoverage, _Mapping]]] = ...) -> None: ...

class ExplanationCoverage(_message.Message):
    __slots__ = ("pipeline", "prediction_count", "explained_count")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_COUNT_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_COUNT_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    prediction_count: int
    explained_count: int
    def __init__(self, pipeline: _Optional[str] = ..., prediction_count: _Optional[int] = ..., explained_count: _Optional[int] = ...) -> None: ...

class NextPredictionsRequest(_message.Message):
    __slots__ = ("demands",)
    DEMANDS_FIELD_NUMBER: _ClassVar[int]
    demands: _containers.RepeatedCompositeFieldContainer[ExplanationDemand]
    def __init__(self, demands: _Optional[_Iterable[_Union[ExplanationDemand, _Mapping]]] = ...) -> None: ...

class ExplanationDemand(_message.Message):
    __slots__ = ("pipeline", "revision", "coverage", "columns")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    revision: str
    coverage: float
    columns: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, pipeline: _Optional[str] = ..., revision: _Optional[str] = ..., coverage: _Optional[float] = ..., columns: _Optional[_Iterable[str]] = ...) -> None: ...

class NextPredictionsResponse(_message.Message):
    __slots__ = ("predictions",)
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    predictions: _containers.RepeatedCompositeFieldContainer[UnexplainedPredictions]
    def __init__(self, predictions: _Optional[_Iterable[_Union[UnexplainedPredictions, _Mapping]]] = ...) -> None: ...

class UnexplainedPredictions(_message.Message):
    __slots__ = ("pipeline", "revision", "prediction_ids", "batch")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_IDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    revision: str
    prediction_ids: _containers.RepeatedScalarFieldContainer[bytes]
    batch: _batch_pb2.Batch
    def __init__(self, pipeline: _Optional[str] = ..., revision: _Optional[str] = ..., prediction_ids: _Optional[_Iterable[bytes]] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ...) -> None: ...
