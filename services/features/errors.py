"""Faults for mistakes of the callers of the features service."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason


def unknown_service(name: str, known: list[str]) -> Fault:
    """The registry has no such feature service."""
    message = f"there is no feature service {name!r}; the registry has {', '.join(sorted(known)) or 'none'}"
    metadata = {"feature_service": name}
    return Fault(Code.NOT_FOUND, Reason.REASON_SPEC_UNKNOWN, message, metadata=metadata)


def missing_key(name: str) -> Fault:
    """The batch has no column for a join key."""
    message = f"the batch has no column {name!r}, which is a join key of the feature service; send it"
    metadata = {"field": name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, metadata=metadata)


def wrong_key(name: str, found: str, wanted: str) -> Fault:
    """A join key's column has another type or shape."""
    message = f"join key {name!r} is {found}; the registry says {wanted}, one per row"
    metadata = {"field": name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_DTYPE, message, metadata=metadata)


def no_column(service: str, feature: str) -> Fault:
    """The type of a feature can't be held by a column."""
    message = f"feature {feature} of {service!r} is no scalar, and columns hold scalars"
    metadata = {"feature_service": service, "feature": feature}
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, message, metadata=metadata)


def missing_input(name: str) -> Fault:
    """A request column that an on-demand view needs is missing."""
    message = (
        f"the batch has no column {name!r}, which an on-demand feature view of the service takes; send it"
    )
    metadata = {"field": name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, metadata=metadata)


def wrong_input(name: str, found: str, wanted: str) -> Fault:
    """A request column that an on-demand view needs has another type or shape."""
    message = (
        f"column {name!r} is {found}; an on-demand feature view of the service takes {wanted}, one per row"
    )
    metadata = {"field": name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_DTYPE, message, metadata=metadata)


def ambiguous(service: str, why: str) -> Fault:
    """Two features have the same name."""
    message = (
        f"feature service {service!r} has features that columns can't tell apart: {why}; ask for full names"
    )
    metadata = {"feature_service": service}
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, message, metadata=metadata)


def wrong_rule(view: str) -> Fault:
    """A freshness rule for a view that is not read, or a second one."""
    message = (
        f"there can be one rule for each view that the feature service reads, and {view!r} is none or has two"
    )
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_MALFORMED_REQUEST, message, metadata={"view": view})
