"""How large a change may be, and what its texts may be. No page is larger than gRPC's messages are."""

from __future__ import annotations

import re

from headrace.catalog.access import Change
from services.control import errors

_KIND = re.compile(r"[a-z][a-z_]{0,39}")
_NAME = re.compile(r"[!-~]{1,300}")
_ID = re.compile(r"[0-9a-f]{32}")
_ACTION = re.compile(r"[a-z_]+(\.[a-z_]+)*")
# Longer than a document or release may be.
MAX_CONTENT_BYTES = 2 << 20
_MAX_CHANGE_BYTES = 16 << 20
_MAX_WRITES = 2000
_MAX_DETAILS = 50
_MAX_TEXT = 2000
# A lease that is held so long is no lease: its holder may have died long ago.
_MAX_LEASE_MS = 3_600_000


def check_change(change: Change) -> None:
    """Raises Fault."""
    _matches("change_id", change.id, _ID, "32 hexadecimal digits")
    _matches("action", change.action, _ACTION, "words of small letters with points between")
    _text("actor", change.actor, 200)
    _text("subject", change.subject, 400)
    _text("reason", change.reason, _MAX_TEXT)
    if not change.actor:
        raise errors.malformed("actor", "who makes the change")
    _at_most("details", len(change.details), _MAX_DETAILS)
    for key, value in change.details.items():
        _text("details", key, 100)
        _text(f"details.{key[:40]}", value, _MAX_TEXT)
    _at_most("writes", len(change.writes), _MAX_WRITES)
    _at_most("writes", sum(len(write.content or b"") for write in change.writes), _MAX_CHANGE_BYTES)
    for write in change.writes:
        check_record(write.kind, write.name)
        _at_most("content", len(write.content or b""), MAX_CONTENT_BYTES)
    if len({(write.kind, write.name) for write in change.writes}) < len(change.writes):
        raise errors.malformed("writes", "one for each record")


def check_record(kind: str, name: str) -> None:
    """Raises Fault."""
    check_kind(kind)
    _matches("name", name, _NAME, "1 to 300 printable ASCII characters without spaces")


def check_kind(kind: str) -> None:
    """Raises Fault."""
    _matches("kind", kind, _KIND, "a word of small letters")


def check_lease(name: str, holder: str, token: str, duration_ms: int) -> None:
    """Raises Fault."""
    _matches("name", name, _NAME, "1 to 300 printable ASCII characters without spaces")
    _text("holder", holder, 200)
    _text("token", token, 200)
    if not 0 < duration_ms <= _MAX_LEASE_MS:
        raise errors.malformed("duration_ms", f"from 1 to {_MAX_LEASE_MS}")


def _matches(field: str, value: str, pattern: re.Pattern[str], wanted: str) -> None:
    if not pattern.fullmatch(value):
        raise errors.malformed(field, wanted)


def _text(field: str, value: str, limit: int) -> None:
    _at_most(field, len(value), limit)
    if "\0" in value:
        # PostgreSQL stores none.
        raise errors.malformed(field, "text without NUL")


def _at_most(field: str, size: int, limit: int) -> None:
    if size > limit:
        raise errors.too_large(field, size, limit)
