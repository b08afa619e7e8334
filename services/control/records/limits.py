"""What may not be sent at all. How names and contents must be, the database says itself (`headrace.catalog.changes`)."""

from __future__ import annotations

import re

from headrace.catalog.access import Change
from headrace.catalog.errors import RecordInvalidError
from headrace.resources.snapshot import is_name
from services.control import errors

_ACTION = re.compile(r"[a-z_]+(\.[a-z_]+)*")
_MAX_ACTOR, _MAX_SUBJECT, _MAX_REASON = 200, 600, 4000
_MAX_WRITES, _MAX_BYTES = 2000, 16 << 20
# What databases can hold.
MAX_NUMBER = (1 << 63) - 1
# A lease that is held for longer is none: its holder may have died long ago.
_MAX_LEASE_MS = 3_600_000


def check_change(change: Change) -> None:
    """Raises RecordInvalidError."""
    size = sum(len(write.content or b"") for write in change.writes)
    problems = {
        "actor: say who makes the change": not change.actor,
        "action: words of small letters with points between": not _ACTION.fullmatch(change.action),
        f"actor: longer than {_MAX_ACTOR} characters": len(change.actor) > _MAX_ACTOR,
        f"subject: longer than {_MAX_SUBJECT} characters": len(change.subject) > _MAX_SUBJECT,
        f"reason: longer than {_MAX_REASON} characters": len(change.reason) > _MAX_REASON,
        f"writes: more than {_MAX_WRITES}": len(change.writes) > _MAX_WRITES,
        f"writes: more than {_MAX_BYTES} bytes": size > _MAX_BYTES,
    }
    if found := [text for text, wrong in problems.items() if wrong]:
        raise RecordInvalidError("change", change.id[:100], "; ".join(found))


def check_names(*names: str) -> None:
    """Raises Fault: no record has such a kind or name."""
    if not all(map(is_name, names)):
        raise errors.malformed("name", "1 to 512 printable characters")


def check_lease(name: str, holder: str, token: str, duration_ms: int) -> None:
    """Raises Fault."""
    check_names(name, *filter(None, (holder, token)))
    if not 0 < duration_ms <= _MAX_LEASE_MS:
        raise errors.malformed("duration_ms", f"from 1 to {_MAX_LEASE_MS}")
