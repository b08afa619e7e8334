"""What callers of the features service do wrong, in words."""

from __future__ import annotations

from headrace.hop.errors import Code, Fault, Reason


def unknown_service(name: str, known: list[str]) -> Fault:
    """No such feature service."""
    message = f"there is no feature service {name!r}; the registry has {', '.join(sorted(known)) or 'none'}"
    metadata = {"feature_service": name}
    return Fault(Code.NOT_FOUND, Reason.REASON_SPEC_UNKNOWN, message, metadata=metadata)


def unsupported_service(name: str, why: str) -> Fault:
    """A feature service of a form that is not served."""
    message = f"feature service {name!r} can't be served: {why}"
    metadata = {"feature_service": name}
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, message, metadata=metadata)


def missing_key(name: str) -> Fault:
    """A join key has no column."""
    message = f"the batch has no column {name!r}, which is a join key of the feature service; send it"
    metadata = {"field": name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_MISSING, message, metadata=metadata)


def wrong_key(name: str, found: str, wanted: str) -> Fault:
    """A join key's column has another type or shape."""
    message = f"join key {name!r} is {found}; the registry says {wanted}, one per row"
    metadata = {"field": name}
    return Fault(Code.INVALID_ARGUMENT, Reason.REASON_INPUT_DTYPE, message, metadata=metadata)


def no_column(service: str, feature: str) -> Fault:
    """A feature of a type that no column holds."""
    message = f"feature {feature} of {service!r} is no scalar, and columns hold scalars; ask Feast's ServingService for it"
    metadata = {"feature_service": service, "feature": feature}
    return Fault(Code.FAILED_PRECONDITION, Reason.REASON_FEATURE_UNAVAILABLE, message, metadata=metadata)
