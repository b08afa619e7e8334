from headrace.api.batch.v1 import batch_pb2 as _batch_pb2
from headrace.api.executor.v1 import executor_pb2 as _executor_pb2
from headrace.api.router.v1 import explain_pb2 as _explain_pb2
from headrace.api.router.v1 import shadow_pb2 as _shadow_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InferRequest(_message.Message):
    __slots__ = ("pipeline", "version", "batch")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    version: int
    batch: _batch_pb2.Batch
    def __init__(self, pipeline: _Optional[str] = ..., version: _Optional[int] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("batch", "fallbacks", "decisions", "event_epoch", "event_sequence")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    EVENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    batch: _batch_pb2.Batch
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    event_epoch: int
    event_sequence: int
    def __init__(self, batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., fallbacks: _Optional[_Iterable[str]] = ..., decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., event_epoch: _Optional[int] = ..., event_sequence: _Optional[int] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("version", "revision", "route", "models", "rule", "release", "sticky")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    version: int
    revision: str
    route: str
    models: _containers.RepeatedCompositeFieldContainer[ModelUse]
    rule: str
    release: int
    sticky: bool
    def __init__(self, version: _Optional[int] = ..., revision: _Optional[str] = ..., route: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ModelUse, _Mapping]]] = ..., rule: _Optional[str] = ..., release: _Optional[int] = ..., sticky: _Optional[bool] = ...) -> None: ...

class ModelUse(_message.Message):
    __slots__ = ("stage", "model", "version", "sha256", "backend", "standby", "cold_start")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    STANDBY_FIELD_NUMBER: _ClassVar[int]
    COLD_START_FIELD_NUMBER: _ClassVar[int]
    stage: str
    model: str
    version: str
    sha256: str
    backend: str
    standby: bool
    cold_start: bool
    def __init__(self, stage: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ..., backend: _Optional[str] = ..., standby: _Optional[bool] = ..., cold_start: _Optional[bool] = ...) -> None: ...

class ListPipelinesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPipelinesResponse(_message.Message):
    __slots__ = ("pipelines",)
    PIPELINES_FIELD_NUMBER: _ClassVar[int]
    pipelines: _containers.RepeatedCompositeFieldContainer[PipelineVersion]
    def __init__(self, pipelines: _Optional[_Iterable[_Union[PipelineVersion, _Mapping]]] = ...) -> None: ...

class PipelineVersion(_message.Message):
    __slots__ = ("name", "version", "revision", "release")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    revision: str
    release: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., revision: _Optional[str] = ..., release: _Optional[int] = ...) -> None: ...

class IndexModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class IndexModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[_executor_pb2.IndexedModel]
    def __init__(self, models: _Optional[_Iterable[_Union[_executor_pb2.IndexedModel, _Mapping]]] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model", "version", "operator")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    operator: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., operator: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("model", "version", "sha256", "backend", "device")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    sha256: str
    backend: str
    device: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., sha256: _Optional[str] = ..., backend: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class UnloadModelRequest(_message.Message):
    __slots__ = ("model", "version", "operator")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    operator: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., operator: _Optional[str] = ...) -> None: ...

class UnloadModelResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, versions: _Optional[_Iterable[str]] = ...) -> None: ...
