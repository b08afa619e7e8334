"""The audit as control has it: each line is verified here against the one before, and each reading is recorded first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import takewhile
from typing import Any

from headrace.audit import chain
from headrace.audit.access import SCOPE, Access, AccessError
from headrace.audit.chain import AuditLine
from headrace.catalog.access import Position, Records
from services.monitoring.console import faults
from services.monitoring.console.reach import Reach, notice

LOG = "the audit"
_LINES = 50


class AuditLog:
    """`readings` None: readings are not recorded."""

    def __init__(self, records: Records, readings: Access | None, reach: Reach) -> None:
        self._records = records
        self._readings = readings
        self._reach = reach

    async def page(self, who: str, before: int | None = None) -> dict[str, Any]:
        """The newest lines, or those below `before`. Raises Fault: that `who` reads can't be recorded, or control is away."""
        await self.record_reading(who, LOG)
        read = partial(_newest, self._records, before)
        position, lines = await self._reach.need(LOG, self._reach.run(read))
        rows = [_row(line, after, position) for line, after in zip(lines, [*lines[1:], None], strict=True)]
        wrong = ", ".join(str(row["number"]) for row in rows if not row["holds"])
        return {
            "at": self._reach.at(),
            "notices": [notice("bad", f"Altered: line {wrong}. headrace audit verify says more.")]
            if wrong
            else [],
            "position": {"epoch": position.epoch, "number": position.number, "head": position.head.hex()},
            "lines": rows[::-1],
            "older": lines[0].number if lines and lines[0].number > 1 else None,
        }

    async def record_reading(self, who: str, what: str) -> None:
        """Records that `who` reads something of the audit. Raises Fault: it can't be recorded."""
        if (readings := self._readings) is None:
            return
        try:
            allow = partial(readings.allow, "read", f"{who} (console)", [SCOPE], what=what)
            await self._reach.run(allow)
        except (AccessError, OSError) as error:
            self._reach.lost(LOG, error)
            raise faults.unrecorded(
                "that the audit is read can't be recorded now, so it is not shown"
            ) from None


def _newest(records: Records, before: int | None) -> tuple[Position, list[AuditLine]]:
    position = records.position()
    last = position.number if before is None else max(min(before - 1, position.number), 0)
    lines = records.lines(max(last - _LINES, 0))
    return position, list(takewhile(lambda line: line.number <= last, lines))


def _row(line: AuditLine, after: AuditLine | None, position: Position) -> dict[str, Any]:
    """`after`: the line that continues it, if it is there too."""
    said = _said(line)
    holds = said is not None
    if after is not None and (following := _said(after)) is not None:
        holds = holds and following["previous"] == line.sha256.hex()
    if line.number == position.number:
        holds = holds and line.sha256 == position.head
    found = said or chain.fields(line.line) or {}
    about = {
        **found.get("details", {}),
        **{f"{w['kind']} {w['name']}": f"version {w['version']}" for w in found.get("writes", ())},
    }
    return {
        "number": line.number,
        "holds": holds,
        **{key: found.get(key, "") for key in ("at", "actor", "action", "subject", "reason")},
        "about": [{"key": key, "value": value} for key, value in about.items()],
        "sha256": line.sha256.hex(),
    }


def _said(line: AuditLine) -> Mapping[str, Any] | None:
    """What a line says that has its hash and its number; None: it has not."""
    found = chain.fields(line.line) if chain.digest(line.line) == line.sha256 else None
    return found if found is not None and found["number"] == line.number else None
