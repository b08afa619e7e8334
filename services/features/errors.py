"""Faults for mistakes of the callers of the features service."""

from __future__ import annotations

from headrace.columns import Column
from headrace.hop.errors import Code, Fault, Reason


def unknown_service(name: str, known: list[str]) -> Fault:
    message = f"there is no feature service {name!r}; the registry has {', '.join(sorted(known)) or 'none'}"
    return _fault(Code.NOT_FOUND, Reason.REASON_SPEC_UNKNOWN, message, feature_service=name)


def missing_column(name: str, taker: str) -> Fault:
    message = f"the batch has no column {name!r}, which {taker} takes; send it"
    return _fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, field=name)


def wrong_column(column: Column, taker: str, wanted: str) -> Fault:
    found = f"{column.dtype.name.lower()}{list(column.row_shape) or ''}"
    message = f"column {column.name!r} is {found}; {taker} takes {wanted}, one per row"
    return _fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_DTYPE, message, field=column.name)


def unreadable(service: str, why: str) -> Fault:
    """A view or a key of the service is of a kind that is not read."""
    return _unavailable(f"feature service {service!r} can't be read: {why}", feature_service=service)


def no_column(service: str, feature: str) -> Fault:
    message = f"feature {feature} of {service!r} is no scalar, and columns hold scalars"
    return _unavailable(message, feature_service=service, feature=feature)


def ambiguous(service: str, why: str) -> Fault:
    message = f"feature service {service!r} has features that columns can't tell apart: {why}"
    return _unavailable(message, feature_service=service)


def wrong_rule(view: str) -> Fault:
    """A freshness rule for a view that is not read, or a second one."""
    message = (
        f"there can be one rule for each view that the feature service reads, and {view!r} is none or has two"
    )
    return _fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, view=view)


def _unavailable(message: str, **metadata: str) -> Fault:
    return _fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, message, **metadata)


def _fault(code: Code, reason: Reason, message: str, **metadata: str) -> Fault:
    return Fault(code, reason, message, metadata=metadata)
