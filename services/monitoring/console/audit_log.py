"""The audit log with its proofs: each entry is verified here against the signed checkpoint, and each reading is an entry too."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from headrace.audit import AccessError, NoteError
from headrace.audit.access import SCOPE
from headrace.audit.reader import Newest, Proven, Reader
from headrace.audit.settings import Audit
from headrace.audit.tiles import TileError
from services.monitoring.console import faults
from services.monitoring.console.known import Reach, notice
from services.monitoring.console.threads import Threads

LOG = "the audit log"
_ENTRIES = 50
_UNSET = "No audit log is kept here (setting audit of the monitoring service; headrace up sets it)."
_BEGUN = "The audit log has no checkpoint yet; one is signed within seconds of its first entry."
_PERSONS = (
    "It tells of persons: the log has a commitment to it. headrace audit export --persons shows the line."
)
T = TypeVar("T")


class AuditLog:
    """`audit` None: none is kept here. `now`: the time as ISO 8601 text."""

    def __init__(self, audit: Audit | None, threads: Threads, reach: Reach, now: Callable[[], str]) -> None:
        self._audit = audit
        self._threads = threads
        self._reach = reach
        self._now = now

    async def page(self, who: str, before: int | None = None) -> dict[str, Any]:
        """The newest entries, or those below `before`. Raises Fault: that `who` reads can't be recorded, or it is damaged."""
        page: dict[str, Any] = {
            "at": self._now(),
            "notices": [],
            "checkpoint": None,
            "entries": [],
            "older": None,
        }
        if self._audit is None:
            return {**page, "notices": [notice("watch", _UNSET)]}
        try:
            found = await self._read(
                lambda reader: reader.newest(_named(who), [SCOPE], _ENTRIES, before=before)
            )
        except FileNotFoundError:
            return {**page, "notices": [notice("watch", _BEGUN)]}
        rows = [_row(proven) for proven in found.entries]
        wrong = [str(row["index"]) for row in rows if not row["holds"]]
        notices = (
            [notice("bad", f"Altered: entry {', '.join(wrong)}. headrace audit verify says where.")]
            if wrong
            else []
        )
        older = rows[-1]["index"] if rows and rows[-1]["index"] > 0 else None
        return {**page, "notices": notices, "checkpoint": _checkpoint(found), "entries": rows, "older": older}

    async def proof(self, who: str, index: int) -> dict[str, Any]:
        """One entry with what proves to others that it is in the log. Raises Fault."""
        if self._audit is None:
            raise faults.no_audit()
        try:
            return await self._read(
                lambda reader: reader.prove(_named(who), [SCOPE], index).told(self._key())
            )
        except FileNotFoundError:
            raise faults.no_entry(_BEGUN) from None
        except ValueError as error:
            raise faults.no_entry(str(error)) from None

    async def note_reading(self, who: str, what: str) -> None:
        """Records that `who` reads something of the audit that is not in the log itself. Raises Fault: it can't be recorded."""
        audit = self._audit
        if audit is not None:
            try:
                await self._threads.run(partial(audit.access.allow, "read", _named(who), [SCOPE], what=what))
            except (AccessError, OSError) as error:
                self._reach.away(LOG, OSError(str(error)))
                raise faults.unrecorded() from None

    def _key(self) -> Any:
        assert self._audit is not None, "the caller has looked"
        return self._audit.verifier()

    async def _read(self, what: Callable[[Reader], T]) -> T:
        """Raises FileNotFoundError: there is no checkpoint yet; ValueError, Fault."""
        audit = self._audit
        assert audit is not None, "the caller has looked"
        try:
            return await self._threads.run(lambda: what(audit.reader()))
        except AccessError as error:
            self._reach.away(LOG, OSError(str(error)))
            raise faults.unrecorded() from None
        except (NoteError, TileError) as error:
            self._reach.away(LOG, OSError(str(error)))
            raise faults.damaged(str(error)) from None
        except FileNotFoundError:
            raise
        except OSError as error:
            self._reach.away(LOG, error)
            raise faults.unreachable(LOG) from None


def _named(who: str) -> str:
    return f"{who} (console)"


def _checkpoint(found: Newest) -> dict[str, Any]:
    return {
        "origin": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "root": base64.b64encode(found.checkpoint.root).decode(),
        "text": found.note.decode(),
    }


def _row(proven: Proven) -> dict[str, Any]:
    record, proof = proven.entry.record, proven.proof
    line = proven.entry.line
    return {
        "index": proven.entry.index,
        "at": record.at,
        "kind": record.kind,
        "source": record.source,
        "holds": proven.holds,
        "hashes": len(proof.hashes),
        "about": _about(line) if line else [],
        "line": line,
        "withheld": _PERSONS if record.commitment else "",
        "why": record.why,
    }


def _about(line: str) -> list[dict[str, str]]:
    """What a line says, without what stands beside it anyway."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return [{"key": "line", "value": line}]
    if not isinstance(found, dict):
        return [{"key": "line", "value": line}]
    hidden = ("at", "time", "event", "kind", "previous")
    return [{"key": k, "value": str(v)} for k, v in found.items() if k not in hidden and v not in ("", None)]
