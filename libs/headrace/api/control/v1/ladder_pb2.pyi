import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_VERDICT_UNSPECIFIED: _ClassVar[RolloutVerdict]
    ROLLOUT_VERDICT_NOT_KNOWN: _ClassVar[RolloutVerdict]
    ROLLOUT_VERDICT_HARM: _ClassVar[RolloutVerdict]
    ROLLOUT_VERDICT_SAMPLE_RATIO_BROKEN: _ClassVar[RolloutVerdict]
    ROLLOUT_VERDICT_MAY_STEP_UP: _ClassVar[RolloutVerdict]
    ROLLOUT_VERDICT_PROVEN_FINE: _ClassVar[RolloutVerdict]

class LadderAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LADDER_ACTION_UNSPECIFIED: _ClassVar[LadderAction]
    LADDER_ACTION_HOLD: _ClassVar[LadderAction]
    LADDER_ACTION_START: _ClassVar[LadderAction]
    LADDER_ACTION_STEP: _ClassVar[LadderAction]
    LADDER_ACTION_PROMOTE: _ClassVar[LadderAction]
    LADDER_ACTION_ROLL_BACK: _ClassVar[LadderAction]
    LADDER_ACTION_PAUSE: _ClassVar[LadderAction]
ROLLOUT_VERDICT_UNSPECIFIED: RolloutVerdict
ROLLOUT_VERDICT_NOT_KNOWN: RolloutVerdict
ROLLOUT_VERDICT_HARM: RolloutVerdict
ROLLOUT_VERDICT_SAMPLE_RATIO_BROKEN: RolloutVerdict
ROLLOUT_VERDICT_MAY_STEP_UP: RolloutVerdict
ROLLOUT_VERDICT_PROVEN_FINE: RolloutVerdict
LADDER_ACTION_UNSPECIFIED: LadderAction
LADDER_ACTION_HOLD: LadderAction
LADDER_ACTION_START: LadderAction
LADDER_ACTION_STEP: LadderAction
LADDER_ACTION_PROMOTE: LadderAction
LADDER_ACTION_ROLL_BACK: LadderAction
LADDER_ACTION_PAUSE: LadderAction

class ReportVerdictRequest(_message.Message):
    __slots__ = ("pipeline", "number", "verdict", "allowed_weight", "reason", "figures", "lease_token", "suspicion")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SUSPICION_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    number: int
    verdict: RolloutVerdict
    allowed_weight: float
    reason: str
    figures: str
    lease_token: str
    suspicion: str
    def __init__(self, pipeline: _Optional[str] = ..., number: _Optional[int] = ..., verdict: _Optional[_Union[RolloutVerdict, str]] = ..., allowed_weight: _Optional[float] = ..., reason: _Optional[str] = ..., figures: _Optional[str] = ..., lease_token: _Optional[str] = ..., suspicion: _Optional[str] = ...) -> None: ...

class ReportVerdictResponse(_message.Message):
    __slots__ = ("action", "number", "weight", "reason", "deadline_time")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_TIME_FIELD_NUMBER: _ClassVar[int]
    action: LadderAction
    number: int
    weight: float
    reason: str
    deadline_time: _timestamp_pb2.Timestamp
    def __init__(self, action: _Optional[_Union[LadderAction, str]] = ..., number: _Optional[int] = ..., weight: _Optional[float] = ..., reason: _Optional[str] = ..., deadline_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
