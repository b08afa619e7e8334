"""The audit as control has it: each line is verified here against the one before, and each reading is recorded first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import takewhile
from typing import Any

from headrace.audit import chain
from headrace.audit.access import SCOPE, Access, AccessError
from headrace.audit.chain import AuditLine
from headrace.catalog.access import Position, Records
from services.monitoring.console import faults
from services.monitoring.console.known import Reach, notice
from services.monitoring.console.threads import Threads

LOG = "the audit"
_LINES = 50


class AuditLog:
    """`readings` None: readings are not recorded. `now`: the time as ISO 8601 text."""

    def __init__(
        self,
        records: Records,
        readings: Access | None,
        threads: Threads,
        reach: Reach,
        now: Callable[[], str],
    ) -> None:
        self._records = records
        self._readings = readings
        self._threads = threads
        self._reach = reach
        self._now = now

    async def page(self, who: str, before: int | None = None) -> dict[str, Any]:
        """The newest lines, or those below `before`. Raises Fault: that `who` reads can't be recorded, or control is away."""
        await self.record_reading(who, LOG)
        page: dict[str, Any] = {
            "at": self._now(),
            "notices": [],
            "position": None,
            "lines": [],
            "older": None,
        }
        try:
            position, lines = await self._threads.run(partial(_newest, self._records, before))
        except OSError as error:
            self._reach.away(LOG, error)
            raise faults.unreachable(LOG) from None
        self._reach.back(LOG)
        rows = [_row(line, after, position) for line, after in zip(lines, [*lines[1:], None], strict=True)]
        wrong = ", ".join(str(row["number"]) for row in rows if not row["holds"])
        notices = [notice("bad", f"Altered: line {wrong}. headrace audit verify says more.")] if wrong else []
        at = {"epoch": position.epoch, "number": position.number, "head": position.head.hex()}
        older = lines[0].number if lines and lines[0].number > 1 else None
        return {**page, "notices": notices, "position": at, "lines": rows[::-1], "older": older}

    async def record_reading(self, who: str, what: str) -> None:
        """Records that `who` reads something of the audit. Raises Fault: it can't be recorded."""
        if (readings := self._readings) is None:
            return
        try:
            allow = partial(readings.allow, "read", f"{who} (console)", [SCOPE], what=what)
            await self._threads.run(allow)
        except (AccessError, OSError) as error:
            self._reach.away(LOG, OSError(str(error)))
            raise faults.unrecorded() from None


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
