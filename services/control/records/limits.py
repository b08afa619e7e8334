"""What may not be sent at all. How names and changes must be, the database says itself (`headrace.catalog.changes`)."""

from __future__ import annotations

from headrace.resources.snapshot import is_name
from services.control import errors

# What databases can hold.
MAX_NUMBER = (1 << 63) - 1
# A lease that is held for longer is none: its holder may have died long ago.
_MAX_LEASE_MS = 3_600_000


def check_names(*names: str) -> None:
    """Raises Fault: no record has such a kind or name."""
    if not all(map(is_name, names)):
        raise errors.malformed("name", "1 to 512 printable characters")


def check_lease(name: str, holder: str, token: str, duration_ms: int) -> None:
    """Raises Fault."""
    check_names(name, *filter(None, (holder, token)))
    if not 0 < duration_ms <= _MAX_LEASE_MS:
        raise errors.malformed("duration_ms", f"from 1 to {_MAX_LEASE_MS}")
