from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_ACTION_UNSPECIFIED: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_PAUSE: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_RESUME: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_PROMOTE: _ClassVar[RolloutAction]
    ROLLOUT_ACTION_ABORT: _ClassVar[RolloutAction]
ROLLOUT_ACTION_UNSPECIFIED: RolloutAction
ROLLOUT_ACTION_PAUSE: RolloutAction
ROLLOUT_ACTION_RESUME: RolloutAction
ROLLOUT_ACTION_PROMOTE: RolloutAction
ROLLOUT_ACTION_ABORT: RolloutAction

class Release(_message.Message):
    __slots__ = ("pipeline", "number", "document", "rolled_back_by")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_BY_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    number: int
    document: str
    rolled_back_by: int
    def __init__(self, pipeline: _Optional[str] = ..., number: _Optional[int] = ..., document: _Optional[str] = ..., rolled_back_by: _Optional[int] = ...) -> None: ...

class Freeze(_message.Message):
    __slots__ = ("author", "reason", "since")
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    author: str
    reason: str
    since: str
    def __init__(self, author: _Optional[str] = ..., reason: _Optional[str] = ..., since: _Optional[str] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("key", "before", "after")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    key: str
    before: str
    after: str
    def __init__(self, key: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class ReleaseChange(_message.Message):
    __slots__ = ("release", "changed", "differences")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    release: Release
    changed: bool
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., changed: _Optional[bool] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping]]] = ...) -> None: ...

class ChangeOptions(_message.Message):
    __slots__ = ("reason", "expected_number", "dry_run")
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_NUMBER_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    reason: str
    expected_number: int
    dry_run: bool
    def __init__(self, reason: _Optional[str] = ..., expected_number: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class ArmSpec(_message.Message):
    __slots__ = ("pipeline_document", "models", "label", "settings")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PIPELINE_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    pipeline_document: str
    models: _containers.ScalarMap[str, str]
    label: str
    settings: _containers.ScalarMap[str, str]
    def __init__(self, pipeline_document: _Optional[str] = ..., models: _Optional[_Mapping[str, str]] = ..., label: _Optional[str] = ..., settings: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ("pipeline", "with_documents")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    WITH_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    with_documents: bool
    def __init__(self, pipeline: _Optional[str] = ..., with_documents: _Optional[bool] = ...) -> None: ...

class GetReleaseResponse(_message.Message):
    __slots__ = ("release", "problem", "freeze", "newest_number", "pipeline_documents")
    class PipelineDocumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    FREEZE_FIELD_NUMBER: _ClassVar[int]
    NEWEST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    release: Release
    problem: str
    freeze: Freeze
    newest_number: int
    pipeline_documents: _containers.ScalarMap[str, str]
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., problem: _Optional[str] = ..., freeze: _Optional[_Union[Freeze, _Mapping]] = ..., newest_number: _Optional[int] = ..., pipeline_documents: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListReleasesRequest(_message.Message):
    __slots__ = ("pipeline", "with_documents")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    WITH_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    with_documents: bool
    def __init__(self, pipeline: _Optional[str] = ..., with_documents: _Optional[bool] = ...) -> None: ...

class ListReleasesResponse(_message.Message):
    __slots__ = ("releases", "pipeline_documents")
    class PipelineDocumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    pipeline_documents: _containers.ScalarMap[str, str]
    def __init__(self, releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ..., pipeline_documents: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CommitReleaseRequest(_message.Message):
    __slots__ = ("document", "pipeline_documents")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    document: str
    pipeline_documents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, document: _Optional[str] = ..., pipeline_documents: _Optional[_Iterable[str]] = ...) -> None: ...

class CommitReleaseResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ReleaseChange
    def __init__(self, change: _Optional[_Union[ReleaseChange, _Mapping]] = ...) -> None: ...

class ApplyReleaseRequest(_message.Message):
    __slots__ = ("document", "pipeline_documents", "options", "again")
    class PipelineDocumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    PIPELINE_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    AGAIN_FIELD_NUMBER: _ClassVar[int]
    document: str
    pipeline_documents: _containers.ScalarMap[str, str]
    options: ChangeOptions
    again: bool
    def __init__(self, document: _Optional[str] = ..., pipeline_documents: _Optional[_Mapping[str, str]] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ..., again: _Optional[bool] = ...) -> None: ...

class ApplyReleaseResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ReleaseChange
    def __init__(self, change: _Optional[_Union[ReleaseChange, _Mapping]] = ...) -> None: ...

class DeployPipelineRequest(_message.Message):
    __slots__ = ("pipeline", "spec", "arm", "options", "without_holdback")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_HOLDBACK_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    spec: ArmSpec
    arm: str
    options: ChangeOptions
    without_holdback: bool
    def __init__(self, pipeline: _Optional[str] = ..., spec: _Optional[_Union[ArmSpec, _Mapping]] = ..., arm: _Optional[str] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ..., without_holdback: _Optional[bool] = ...) -> None: ...

class DeployPipelineResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ReleaseChange
    def __init__(self, change: _Optional[_Union[ReleaseChange, _Mapping]] = ...) -> None: ...

class RollBackReleaseRequest(_message.Message):
    __slots__ = ("pipeline", "to_number", "options")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    TO_NUMBER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    to_number: int
    options: ChangeOptions
    def __init__(self, pipeline: _Optional[str] = ..., to_number: _Optional[int] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class RollBackReleaseResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ReleaseChange
    def __init__(self, change: _Optional[_Union[ReleaseChange, _Mapping]] = ...) -> None: ...

class StartRolloutRequest(_message.Message):
    __slots__ = ("pipeline", "spec", "arm", "by", "ladder", "deadline_s", "otherwise", "alpha", "options")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    LADDER_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    OTHERWISE_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    spec: ArmSpec
    arm: str
    by: str
    ladder: _containers.RepeatedScalarFieldContainer[float]
    deadline_s: float
    otherwise: str
    alpha: float
    options: ChangeOptions
    def __init__(self, pipeline: _Optional[str] = ..., spec: _Optional[_Union[ArmSpec, _Mapping]] = ..., arm: _Optional[str] = ..., by: _Optional[str] = ..., ladder: _Optional[_Iterable[float]] = ..., deadline_s: _Optional[float] = ..., otherwise: _Optional[str] = ..., alpha: _Optional[float] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class StartRolloutResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ReleaseChange
    def __init__(self, change: _Optional[_Union[ReleaseChange, _Mapping]] = ...) -> None: ...

class SteerRolloutRequest(_message.Message):
    __slots__ = ("pipeline", "action", "options")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    action: RolloutAction
    options: ChangeOptions
    def __init__(self, pipeline: _Optional[str] = ..., action: _Optional[_Union[RolloutAction, str]] = ..., options: _Optional[_Union[ChangeOptions, _Mapping]] = ...) -> None: ...

class SteerRolloutResponse(_message.Message):
    __slots__ = ("change",)
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    change: ReleaseChange
    def __init__(self, change: _Optional[_Union[ReleaseChange, _Mapping]] = ...) -> None: ...

class SetFreezeRequest(_message.Message):
    __slots__ = ("pipeline", "frozen", "reason")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    frozen: bool
    reason: str
    def __init__(self, pipeline: _Optional[str] = ..., frozen: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class SetFreezeResponse(_message.Message):
    __slots__ = ("freeze",)
    FREEZE_FIELD_NUMBER: _ClassVar[int]
    freeze: Freeze
    def __init__(self, freeze: _Optional[_Union[Freeze, _Mapping]] = ...) -> None: ...
