"""Fault ⇄ gRPC status: google.rpc.Status with one ErrorInfo, and the pushback of retries.

Reading is tolerant: anything that a peer, a proxy or gRPC itself sends becomes a Fault, never another exception.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import (  # type: ignore[import-untyped] # googleapis-common-protos has no stubs
    error_details_pb2,
    status_pb2,
)

from headrace.api.errors.v1 import errors_pb2
from headrace.hop.errors import DOMAIN, Code, Fault, reason_name, reason_of

DETAILS = "grpc-status-details-bin"
PUSHBACK = "grpc-retry-pushback-ms"
# gRPC's clients accept 8 KiB of trailers by default; the message travels twice (status and details), and
# percent-encoding may triple one of the two.
_MAX_MESSAGE_CHARS = 1024
_MAX_METADATA_CHARS = 2048

_STATUS: Mapping[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}

# Reasons for errors that gRPC itself creates, without our details.
_BARE_REASONS = {
    Code.DEADLINE_EXCEEDED: errors_pb2.REASON_DEADLINE_PASSED,
    Code.RESOURCE_EXHAUSTED: errors_pb2.REASON_OVERLOADED,
    Code.UNIMPLEMENTED: errors_pb2.REASON_METHOD_UNKNOWN,
    Code.UNAVAILABLE: errors_pb2.REASON_UNREACHABLE,
    Code.INTERNAL: errors_pb2.REASON_INTERNAL,
    Code.UNKNOWN: errors_pb2.REASON_INTERNAL,
    Code.DATA_LOSS: errors_pb2.REASON_INTERNAL,
}


def status_code(code: Code) -> grpc.StatusCode:
    """gRPC's enum member of a code."""
    return _STATUS[int(code)]


def code_of(status: object) -> Code:
    """Code for the value of `RpcError.code()`; UNKNOWN for anything else."""
    return Code(status.value[0]) if isinstance(status, grpc.StatusCode) else Code.UNKNOWN


def trailers(fault: Fault) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that carries a fault's reason, metadata and retry hint."""
    return ((DETAILS, status_of(fault).SerializeToString()), *pushback(fault))


def pushback(fault: Fault) -> tuple[tuple[str, str], ...]:
    """The part of the trailers that says when to retry; empty without a hint."""
    if fault.retry_after_s is None:
        return ()
    return ((PUSHBACK, str(max(-1, round(fault.retry_after_s * 1000)))),)


def status_of(fault: Fault) -> status_pb2.Status:
    """The fault as a google.rpc.Status, its message and metadata cut to what trailers can hold."""
    status = status_pb2.Status(code=int(fault.code), message=cut(fault.message))
    info = error_details_pb2.ErrorInfo(reason=reason_name(fault.reason), domain=DOMAIN)
    room = _MAX_METADATA_CHARS
    for key, value in fault.metadata.items():
        room -= len(key) + len(value)
        if room < 0:
            break
        info.metadata[key] = value
    status.details.add().Pack(info)
    if fault.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMicroseconds(max(0, round(fault.retry_after_s * 1e6)))
        status.details.add().Pack(retry)
    return status


def cut(message: str) -> str:
    """A message cut to the length that fits a header."""
    return message if len(message) <= _MAX_MESSAGE_CHARS else message[: _MAX_MESSAGE_CHARS - 1] + "…"


def fault_of(
    status: object, message: str | None, trailing: Iterable[tuple[str, str | bytes]] | None
) -> Fault:
    """The fault in an RPC's status.

    `status` is gRPC's StatusCode, `trailing` the trailing metadata. Without (readable) details the reason is
    what gRPC itself means by the code. Never raises.
    """
    code = code_of(status)
    pairs = [(str(key).lower(), value) for key, value in trailing or ()]
    found = _decoded(pairs)
    text = message or (found.message if found else "") or code.name
    retry = _pushback(pairs)
    for detail in found.details if found else ():
        fault = _from_info(detail, code, text)
        if fault is not None:
            fault.retry_after_s = retry
            return fault
    if code is Code.CANCELLED:
        # Our own cancellation is a CancelledError. This code comes from a server that stops: its core drops calls that
        # arrive after the stop, unserved. (Observed; a retry finds the successor.)
        code, text = Code.UNAVAILABLE, "The server dropped the call while it stopped; try again."
    return Fault(code, _bare_reason(code, text), text, retry_after_s=retry)


def fault_of_rpc(error: grpc.aio.AioRpcError) -> Fault:
    """`fault_of` for the exception that grpc.aio's client raises."""
    trailing = error.trailing_metadata()
    return fault_of(error.code(), error.details(), list(trailing) if trailing is not None else None)


def fault_of_status(raw: bytes, trailing: Mapping[str, str]) -> Fault:
    """`fault_of` for a call on a stream: a serialised Status and the trailing metadata.

    Raises DecodeError if `raw` is not a Status.
    """
    status = status_pb2.Status.FromString(raw)
    return fault_of(_STATUS.get(status.code), status.message, [(DETAILS, raw), *trailing.items()])


def _decoded(pairs: list[tuple[str, str | bytes]]) -> status_pb2.Status | None:
    for key, value in pairs:
        if key == DETAILS and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _from_info(detail: Any, code: Code, text: str) -> Fault | None:
    info = error_details_pb2.ErrorInfo()
    try:
        if not detail.Unpack(info) or info.domain != DOMAIN:
            return None
    except DecodeError:
        return None
    return Fault(code, reason_of(info.reason), text, metadata=dict(info.metadata))


def _pushback(pairs: list[tuple[str, str | bytes]]) -> float | None:
    for key, value in pairs:
        if key == PUSHBACK:
            try:
                return int(value) / 1000
            except ValueError:
                return -1.0  # as in gRPC's retry design: an unreadable value forbids the retry
    return None


def _bare_reason(code: Code, text: str) -> errors_pb2.Reason:
    if code is Code.RESOURCE_EXHAUSTED and "larger than max" in text:
        return errors_pb2.REASON_TOO_LARGE
    return _BARE_REASONS.get(code, errors_pb2.REASON_UNSPECIFIED)


def unknown_method(path: str) -> Fault:
    """What a caller is told of a method that the server does not have, whatever carried the call."""
    return Fault(
        Code.UNIMPLEMENTED,
        errors_pb2.Reason.REASON_METHOD_UNKNOWN,
        "The server has no unary method of this name; do both sides use one contract?",
        metadata={"method": path[:200]},
    )
