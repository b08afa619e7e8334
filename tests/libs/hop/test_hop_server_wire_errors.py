"""Fault ⇄ status, and what garbage becomes."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # has no stubs
from hypothesis import given
from hypothesis import strategies as st

from headrace import hop
from headrace.hop.transport import wire_errors

REASONS = st.sampled_from([hop.Reason.Value(name) for name in hop.Reason.keys()])  # noqa: SIM118 - an enum wrapper
CODES = st.sampled_from([code for code in hop.Code if code is not hop.Code.OK])
WORDS = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    CODES,
    REASONS,
    WORDS.filter(bool),
    st.dictionaries(WORDS, WORDS, max_size=4),
    st.none() | st.integers(0, 60_000),
)
def test_a_fault_survives_the_wire(
    code: hop.Code, reason: hop.Reason, message: str, metadata: dict[str, str], pushback_ms: int | None
) -> None:
    retry = None if pushback_ms is None else pushback_ms / 1000
    fault = hop.Fault(code, reason, message, metadata=metadata, retry_after_s=retry)

    back = wire_errors.fault_of(wire_errors.status_code(code), message, wire_errors.trailers(fault))

    assert (back.code, back.reason, back.message) == (code, reason, message)
    assert back.metadata == metadata
    assert back.retry_after_s == retry


@given(
    st.sampled_from(list(grpc.StatusCode)) | st.none() | st.integers(),
    st.none() | WORDS,
    st.none()
    | st.lists(
        st.tuples(st.sampled_from([wire_errors.DETAILS, wire_errors.PUSHBACK, "x"]), st.binary() | WORDS)
    ),
)
def test_garbage_becomes_a_fault(status: Any, message: str | None, trailing: Any) -> None:
    fault = wire_errors.fault_of(status, message, trailing)
    assert isinstance(fault, hop.Fault)
    assert fault.message


def test_the_details_are_googles() -> None:
    fault = hop.Fault(
        hop.Code.RESOURCE_EXHAUSTED,
        hop.Reason.REASON_QUOTA_EXCEEDED,
        "slow down",
        metadata={"limit": "5"},
        retry_after_s=1.5,
    )
    trailers = dict(wire_errors.trailers(fault))

    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain, info.metadata["limit"]) == ("QUOTA_EXCEEDED", "headrace", "5")
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert trailers["grpc-retry-pushback-ms"] == "1500"


def test_a_foreign_domain_is_not_ours() -> None:
    status = status_pb2.Status(code=5)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="MODEL_UNKNOWN", domain="elsewhere"))
    fault = wire_errors.fault_of(
        grpc.StatusCode.NOT_FOUND, "x", [(wire_errors.DETAILS, status.SerializeToString())]
    )
    assert fault.reason == hop.Reason.REASON_UNSPECIFIED


@pytest.mark.parametrize(
    ("status", "details", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connect failed", hop.Reason.REASON_UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", hop.Reason.REASON_DEADLINE_PASSED),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", hop.Reason.REASON_METHOD_UNKNOWN),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "Received message larger than max (9 vs. 4)",
            hop.Reason.REASON_TOO_LARGE,
        ),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "", hop.Reason.REASON_OVERLOADED),
        (grpc.StatusCode.CANCELLED, None, hop.Reason.REASON_UNREACHABLE),
    ],
)
def test_what_grpc_says_by_itself_has_a_reason(status: Any, details: str | None, reason: hop.Reason) -> None:
    assert wire_errors.fault_of(status, details, ()).reason == reason


def test_a_long_message_and_fat_metadata_fit_into_trailers() -> None:
    fault = hop.Fault(
        hop.Code.INTERNAL,
        hop.Reason.REASON_INTERNAL,
        "é" * 100_000,
        metadata={str(i): "v" * 500 for i in range(100)},
    )
    size = sum(len(value) for _, value in wire_errors.trailers(fault))
    # The message again as `grpc-message`, percent-encoded; together under gRPC's 8 KiB.
    assert size + 3 * len(wire_errors.cut(fault.message).encode()) < 16 * 1024
