from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_MALFORMED_REQUEST: _ClassVar[Reason]
    REASON_INPUT_UNKNOWN: _ClassVar[Reason]
    REASON_INPUT_MISSING: _ClassVar[Reason]
    REASON_INPUT_DTYPE: _ClassVar[Reason]
    REASON_INPUT_SHAPE: _ClassVar[Reason]
    REASON_INPUT_RANGE: _ClassVar[Reason]
    REASON_TOO_LARGE: _ClassVar[Reason]
    REASON_PIPELINE_UNKNOWN: _ClassVar[Reason]
    REASON_VERSION_UNKNOWN: _ClassVar[Reason]
    REASON_MODEL_UNKNOWN: _ClassVar[Reason]
    REASON_CREDENTIAL_INVALID: _ClassVar[Reason]
    REASON_NOT_ALLOWED: _ClassVar[Reason]
    REASON_QUOTA_EXCEEDED: _ClassVar[Reason]
    REASON_DEADLINE_PASSED: _ClassVar[Reason]
    REASON_OVERLOADED: _ClassVar[Reason]
    REASON_BREAKER_OPEN: _ClassVar[Reason]
    REASON_UNREACHABLE: _ClassVar[Reason]
    REASON_RETRY_BUDGET_EMPTY: _ClassVar[Reason]
    REASON_FEATURE_UNAVAILABLE: _ClassVar[Reason]
    REASON_SPEC_UNKNOWN: _ClassVar[Reason]
    REASON_STEP_FAILED: _ClassVar[Reason]
    REASON_MODEL_FAILED: _ClassVar[Reason]
    REASON_DRAINING: _ClassVar[Reason]
    REASON_INTERNAL: _ClassVar[Reason]
    REASON_PEER_UNTRUSTED: _ClassVar[Reason]
    REASON_METHOD_UNKNOWN: _ClassVar[Reason]
    REASON_CANCELLED: _ClassVar[Reason]
    REASON_MODEL_UNTRUSTED: _ClassVar[Reason]
    REASON_MODEL_UNUSABLE: _ClassVar[Reason]
    REASON_PIPELINE_QUARANTINED: _ClassVar[Reason]
REASON_UNSPECIFIED: Reason
REASON_MALFORMED_REQUEST: Reason
REASON_INPUT_UNKNOWN: Reason
REASON_INPUT_MISSING: Reason
REASON_INPUT_DTYPE: Reason
REASON_INPUT_SHAPE: Reason
REASON_INPUT_RANGE: Reason
REASON_TOO_LARGE: Reason
REASON_PIPELINE_UNKNOWN: Reason
REASON_VERSION_UNKNOWN: Reason
REASON_MODEL_UNKNOWN: Reason
REASON_CREDENTIAL_INVALID: Reason
REASON_NOT_ALLOWED: Reason
REASON_QUOTA_EXCEEDED: Reason
REASON_DEADLINE_PASSED: Reason
REASON_OVERLOADED: Reason
REASON_BREAKER_OPEN: Reason
REASON_UNREACHABLE: Reason
REASON_RETRY_BUDGET_EMPTY: Reason
REASON_FEATURE_UNAVAILABLE: Reason
REASON_SPEC_UNKNOWN: Reason
REASON_STEP_FAILED: Reason
REASON_MODEL_FAILED: Reason
REASON_DRAINING: Reason
REASON_INTERNAL: Reason
REASON_PEER_UNTRUSTED: Reason
REASON_METHOD_UNKNOWN: Reason
REASON_CANCELLED: Reason
REASON_MODEL_UNTRUSTED: Reason
REASON_MODEL_UNUSABLE: Reason
REASON_PIPELINE_QUARANTINED: Reason
