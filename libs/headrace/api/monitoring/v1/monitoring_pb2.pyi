import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headrace.api.monitoring.v1 import shadow_pb2 as _shadow_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TickReport(_message.Message):
    __slots__ = ("sequence", "base_sequence", "arms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BASE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    base_sequence: int
    arms: _containers.RepeatedCompositeFieldContainer[ArmCounts]
    def __init__(self, sequence: _Optional[int] = ..., base_sequence: _Optional[int] = ..., arms: _Optional[_Iterable[_Union[ArmCounts, _Mapping]]] = ...) -> None: ...

class ArmCounts(_message.Message):
    __slots__ = ("pipeline", "release", "arm", "row_count", "error_row_count", "latency_counts", "by_rule", "assigned")
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_COUNTS_FIELD_NUMBER: _ClassVar[int]
    BY_RULE_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    release: int
    arm: str
    row_count: int
    error_row_count: int
    latency_counts: _containers.RepeatedScalarFieldContainer[int]
    by_rule: bool
    assigned: AssignedCounts
    def __init__(self, pipeline: _Optional[str] = ..., release: _Optional[int] = ..., arm: _Optional[str] = ..., row_count: _Optional[int] = ..., error_row_count: _Optional[int] = ..., latency_counts: _Optional[_Iterable[int]] = ..., by_rule: _Optional[bool] = ..., assigned: _Optional[_Union[AssignedCounts, _Mapping]] = ...) -> None: ...

class AssignedCounts(_message.Message):
    __slots__ = ("request_count", "bad_request_count", "new_key_count", "fresh_row_count", "fresh_bad_key_count", "answer_latency_counts", "saturated")
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    BAD_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEW_KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRESH_ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    FRESH_BAD_KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_LATENCY_COUNTS_FIELD_NUMBER: _ClassVar[int]
    SATURATED_FIELD_NUMBER: _ClassVar[int]
    request_count: int
    bad_request_count: int
    new_key_count: int
    fresh_row_count: int
    fresh_bad_key_count: int
    answer_latency_counts: _containers.RepeatedScalarFieldContainer[int]
    saturated: bool
    def __init__(self, request_count: _Optional[int] = ..., bad_request_count: _Optional[int] = ..., new_key_count: _Optional[int] = ..., fresh_row_count: _Optional[int] = ..., fresh_bad_key_count: _Optional[int] = ..., answer_latency_counts: _Optional[_Iterable[int]] = ..., saturated: _Optional[bool] = ...) -> None: ...

class RecordOutcomesRequest(_message.Message):
    __slots__ = ("tenant", "outcomes")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, tenant: _Optional[str] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

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

class GetRolloutRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    def __init__(self, pipeline: _Optional[str] = ...) -> None: ...

class GetRolloutResponse(_message.Message):
    __slots__ = ("leads", "problem", "release", "action", "verdict", "weight", "reason", "waits_for", "guards", "sample_ratio_evidence", "unit_count", "look_time", "deadline_time")
    LEADS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    GUARDS_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATIO_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOOK_TIME_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_TIME_FIELD_NUMBER: _ClassVar[int]
    leads: bool
    problem: str
    release: int
    action: str
    verdict: str
    weight: float
    reason: str
    waits_for: str
    guards: _containers.RepeatedCompositeFieldContainer[GuardFigures]
    sample_ratio_evidence: float
    unit_count: int
    look_time: _timestamp_pb2.Timestamp
    deadline_time: _timestamp_pb2.Timestamp
    def __init__(self, leads: _Optional[bool] = ..., problem: _Optional[str] = ..., release: _Optional[int] = ..., action: _Optional[str] = ..., verdict: _Optional[str] = ..., weight: _Optional[float] = ..., reason: _Optional[str] = ..., waits_for: _Optional[str] = ..., guards: _Optional[_Iterable[_Union[GuardFigures, _Mapping]]] = ..., sample_ratio_evidence: _Optional[float] = ..., unit_count: _Optional[int] = ..., look_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., deadline_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GuardFigures(_message.Message):
    __slots__ = ("guard", "verdict", "live", "canary", "harm_evidence", "harm_threshold", "fine_evidence", "fine_threshold", "excess", "excess_allowed", "slow_over_s", "action", "says", "unknown")
    GUARD_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    HARM_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    HARM_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FINE_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    FINE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EXCESS_FIELD_NUMBER: _ClassVar[int]
    EXCESS_ALLOWED_FIELD_NUMBER: _ClassVar[int]
    SLOW_OVER_S_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SAYS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    guard: str
    verdict: str
    live: RateFigures
    canary: RateFigures
    harm_evidence: float
    harm_threshold: float
    fine_evidence: float
    fine_threshold: float
    excess: float
    excess_allowed: float
    slow_over_s: float
    action: str
    says: str
    unknown: str
    def __init__(self, guard: _Optional[str] = ..., verdict: _Optional[str] = ..., live: _Optional[_Union[RateFigures, _Mapping]] = ..., canary: _Optional[_Union[RateFigures, _Mapping]] = ..., harm_evidence: _Optional[float] = ..., harm_threshold: _Optional[float] = ..., fine_evidence: _Optional[float] = ..., fine_threshold: _Optional[float] = ..., excess: _Optional[float] = ..., excess_allowed: _Optional[float] = ..., slow_over_s: _Optional[float] = ..., action: _Optional[str] = ..., says: _Optional[str] = ..., unknown: _Optional[str] = ...) -> None: ...

class RateFigures(_message.Message):
    __slots__ = ("unit_count", "bad_count", "low", "high")
    UNIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    BAD_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    unit_count: int
    bad_count: int
    low: float
    high: float
    def __init__(self, unit_count: _Optional[int] = ..., bad_count: _Optional[int] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class ReadExperimentRequest(_message.Message):
    __slots__ = ("pipeline",)
    PIPELINE_FIELD_NUMBER: _ClassVar[int]
    pipeline: str
    def __init__(self, pipeline: _Optional[str] = ...) -> None: ...

class ReadExperimentResponse(_message.Message):
    __slots__ = ("experiment", "phase", "arms", "crossed_key_count", "sample_ratio_expected", "sample_ratio_log_evidence")
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    CROSSED_KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATIO_EXPECTED_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_RATIO_LOG_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    experiment: str
    phase: int
    arms: _containers.RepeatedCompositeFieldContainer[ExperimentArm]
    crossed_key_count: int
    sample_ratio_expected: bool
    sample_ratio_log_evidence: float
    def __init__(self, experiment: _Optional[str] = ..., phase: _Optional[int] = ..., arms: _Optional[_Iterable[_Union[ExperimentArm, _Mapping]]] = ..., crossed_key_count: _Optional[int] = ..., sample_ratio_expected: _Optional[bool] = ..., sample_ratio_log_evidence: _Optional[float] = ...) -> None: ...

class ExperimentArm(_message.Message):
    __slots__ = ("arm", "exposed_key_count", "outcome_key_count", "mean", "difference", "relative")
    ARM_FIELD_NUMBER: _ClassVar[int]
    EXPOSED_KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_KEY_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_FIELD_NUMBER: _ClassVar[int]
    arm: str
    exposed_key_count: int
    outcome_key_count: int
    mean: float
    difference: Interval
    relative: Interval
    def __init__(self, arm: _Optional[str] = ..., exposed_key_count: _Optional[int] = ..., outcome_key_count: _Optional[int] = ..., mean: _Optional[float] = ..., difference: _Optional[_Union[Interval, _Mapping]] = ..., relative: _Optional[_Union[Interval, _Mapping]] = ...) -> None: ...

class Interval(_message.Message):
    __slots__ = ("value", "low", "high")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    value: float
    low: float
    high: float
    def __init__(self, value: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...
