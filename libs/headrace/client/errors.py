"""Exceptions of the SDK: one class per canonical code that a caller may want to handle separately."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.hop.errors import Code, Fault, reason_name


class HeadraceError(Exception):
    """A call, or one of its rows, failed. The subclass says how to react.

    `code`: canonical gRPC code. `reason`: what happened, for code to act on, for example `QUOTA_EXCEEDED`.
    `metadata`: the dynamic parts of the message. `retry_after_s`: seconds after which a retry makes sense, if the
    server sent that. `request_id`: for the operator's logs and `headrace trace`.
    """

    def __init__(
        self,
        code: Code,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s
        self.request_id = request_id

    def __str__(self) -> str:
        of = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.code.name} {self.reason}: {self.message}{of}"


class InvalidArgumentError(HeadraceError):
    """The request is wrong; sending it again will not help."""


class NotFoundError(HeadraceError):
    """No such pipeline or version."""


class PermissionDeniedError(HeadraceError):
    """The key is not allowed to do this."""


class UnauthenticatedError(HeadraceError):
    """The key is absent, unknown or expired."""


class ResourceExhaustedError(HeadraceError):
    """A quota is used up or the service is overloaded; wait for `retry_after_s`."""


class FailedPreconditionError(HeadraceError):
    """The pipeline needs something that is missing, for example a fresh feature."""


class DeadlineExceededError(HeadraceError):
    """No answer in the time allowed."""


class UnavailableError(HeadraceError):
    """The service can't be reached, or is going down; the SDK has retried already."""


class InternalError(HeadraceError):
    """Something broke on the other side."""


class UnimplementedError(HeadraceError):
    """The server does not know this call."""


class CancelledError(HeadraceError):
    """The call was cancelled."""


_CLASSES: Mapping[Code, type[HeadraceError]] = {
    Code.INVALID_ARGUMENT: InvalidArgumentError,
    Code.OUT_OF_RANGE: InvalidArgumentError,
    Code.NOT_FOUND: NotFoundError,
    Code.PERMISSION_DENIED: PermissionDeniedError,
    Code.UNAUTHENTICATED: UnauthenticatedError,
    Code.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    Code.FAILED_PRECONDITION: FailedPreconditionError,
    Code.DEADLINE_EXCEEDED: DeadlineExceededError,
    Code.UNAVAILABLE: UnavailableError,
    Code.INTERNAL: InternalError,
    Code.UNKNOWN: InternalError,
    Code.DATA_LOSS: InternalError,
    Code.UNIMPLEMENTED: UnimplementedError,
    Code.CANCELLED: CancelledError,
}


def error_class(code: Code) -> type[HeadraceError]:
    """The class for a canonical code."""
    return _CLASSES.get(code, HeadraceError)


def of_fault(fault: Fault, request_id: str) -> HeadraceError:
    """The SDK's error for hop's."""
    return error_class(fault.code)(
        fault.code,
        reason_name(fault.reason),
        fault.message,
        metadata=fault.metadata,
        retry_after_s=fault.retry_after_s,
        request_id=request_id,
    )
