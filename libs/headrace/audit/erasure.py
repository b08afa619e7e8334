"""Erases what a journal says of persons: a line is replaced by its hash, so that the batches in the audit's chain still hold.

Lines that tell of persons have a random salt, so nobody finds a line by trying what its hash may be of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from headrace.audit.access import Access
from headrace.audit.journals import Journal, erased_digest, line_digest
from headrace.state import atomic

# Lines that one line of the journal of readings names: 64 characters each, and a line should stay below 64 KiB.
_AT_ONCE = 500


def erase(journal: Journal, access: Access, who: str, wanted: Mapping[str, str], reason: str) -> int:
    """Erases the lines of which all keys in `wanted` have these values, such as `tenant`. Returns how many.

    A summary tells of many clients and names no tenant: it goes as a whole with one of its clients. Raises ValueError: it names
    nobody; AccessError: it can't be recorded, and what was not erased before stays; OSError.
    """
    wanted = {key: value for key, value in wanted.items() if value}
    if not wanted:
        raise ValueError("an erasure must name a tenant or a client")
    count = 0
    with journal.locked():
        for path in journal.paths():
            if not path.exists():
                continue
            lines = path.read_bytes().splitlines(keepends=True)
            digests = {n: line_digest(line).hex() for n, line in enumerate(lines) if _is_of(line, wanted)}
            named = list(digests.values())
            for start in range(0, len(named), _AT_ONCE):
                access.record_erased(who, journal.name, named[start : start + _AT_ONCE], reason)
            for number, digest in digests.items():
                lines[number] = b'{"erased": "%s"}\n' % digest.encode()
            if digests:
                atomic.write(path, b"".join(lines), mode=0o600)
            count += len(digests)
    return count


def _is_of(line: bytes, wanted: Mapping[str, str]) -> bool:
    if not line.endswith(b"\n") or erased_digest(line) is not None:
        return False
    try:
        about = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if not isinstance(about, dict):
        return False
    clients = about.get("clients")
    if isinstance(clients, dict) and set(wanted) == {"client"}:
        return wanted["client"] in clients
    return all(about.get(key) == value for key, value in wanted.items())
