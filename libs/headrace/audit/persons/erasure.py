"""Erases what the audit holds of persons: single lines by tenant or client, and segments that are old enough.

Each erasure is recorded first, with the commitments that it is about; so verifying tells what was erased from what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date

from headrace.audit.access import Access
from headrace.audit.persons.payloads import Payload, Payloads

# Commitments in one line of the journal: 64 characters each, and an entry of the log has 64 KiB at most.
_AT_ONCE = 500


def erase(payloads: Payloads, access: Access, who: str, wanted: Mapping[str, str], reason: str) -> int:
    """Erases the lines of which all keys in `wanted` have these values, such as `tenant`. Returns how many.

    Summaries tell of many clients and name no tenant; they stay until their segment expires, but counts of an erased client
    in them go with the line. Raises ValueError: it names nobody; AccessError: it can't be recorded, and what was not erased
    before stays; OSError.
    """
    if not any(wanted.values()):
        raise ValueError("an erasure must name a tenant or a client")
    erased = 0
    for segment in payloads.segments():
        found = [p.commitment for p in payloads.read(segment).values() if _is_of(p, wanted)]
        for start in range(0, len(found), _AT_ONCE):
            named = found[start : start + _AT_ONCE]
            access.record_erased("erased", who, segment, named, reason)
            erased += payloads.erase(segment, named)
    return erased


def expire(
    payloads: Payloads, access: Access, who: str, first_kept: date, max_bytes: int | None = None
) -> list[str]:
    """Deletes the segments of the days before, then the oldest until all have `max_bytes` at most; the newest stays.

    Returns their names. Raises AccessError, OSError.
    """
    old = payloads.older(first_kept)
    reasons = dict.fromkeys(payloads.beyond(max_bytes) if max_bytes is not None else (), "retention by size")
    reasons |= dict.fromkeys(old, "retention")
    for segment, reason in sorted(reasons.items()):
        access.record_erased("expired", who, segment, [], reason)
        payloads.remove(segment)
    return sorted(reasons)


def _is_of(payload: Payload, wanted: Mapping[str, str]) -> bool:
    if payload.erased:
        return False
    try:
        about = json.loads(payload.text)
    except (ValueError, RecursionError):
        return False
    if not isinstance(about, dict):
        return False
    clients = about.get("clients")
    if isinstance(clients, dict) and set(wanted) == {"client"}:
        return wanted["client"] in clients
    return all(about.get(key) == value for key, value in wanted.items() if value)
