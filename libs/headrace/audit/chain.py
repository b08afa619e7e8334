"""The audit as a chain of lines: each names the hash of the one before, so what was changed later is seen.

A line is canonical JSON (sorted keys, no spaces, UTF-8). Its hash is SHA-256 of its bytes; `previous` of the first line
is 64 zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

BEFORE_FIRST = bytes(32)
# So many are listed; a rewritten log has one for each line.
MAX_PROBLEMS = 100


class Fault(StrEnum):
    """What was done to a log, or to the records beside it."""

    ALTERED = "altered"
    REMOVED = "removed"
    ADDED = "added"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Problem:
    """`number`: of the first line that it is about."""

    fault: Fault
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """A number and the hash of its line, as somebody knows them. `where`: who, for people."""

    number: int
    sha256: bytes
    where: str = ""


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A line of the audit as it was written. `line`: canonical JSON; `sha256`: of it, as it stands beside it, 32 bytes."""

    number: int
    line: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What a line says of one record. `sha256`: of its content, hexadecimal; None: it was deleted."""

    kind: str
    name: str
    version: int
    sha256: str | None


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def build(
    *,
    number: int,
    epoch: int,
    at_s: float,
    id: str,
    actor: str,
    action: str,
    subject: str,
    reason: str,
    details: Mapping[str, str],
    writes: Sequence[Written],
    previous: bytes,
) -> bytes:
    """The bytes of a line. `at_s`: seconds since 1970."""
    said = {
        "number": number,
        "epoch": epoch,
        "at": datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "id": id,
        "actor": actor,
        "action": action,
        "subject": subject,
        "reason": reason,
        "details": dict(details),
        "writes": [
            {"kind": w.kind, "name": w.name, "version": w.version, "sha256": w.sha256} for w in writes
        ],
        "previous": previous.hex(),
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def written(fields: Mapping[str, Any]) -> list[Written]:
    """What the fields of a line say of records."""
    return [Written(w["kind"], w["name"], w["version"], w["sha256"]) for w in fields["writes"]]


def fields(line: bytes) -> Mapping[str, Any] | None:
    """None: it is not a line."""
    try:
        found: Mapping[str, Any] = json.loads(line)
        written(found)
        right = isinstance(found["number"], int) and isinstance(found["epoch"], int)
        return found if right and isinstance(found["previous"], str) else None
    except (ValueError, TypeError, KeyError):
        return None


def verify(
    lines: Iterable[AuditLine],
    end: Head,
    known: Iterable[Head] = (),
    each: Callable[[int, Mapping[str, Any]], None] = lambda *_: None,
    believed: Callable[[Head], bool] = lambda _: True,
) -> list[Problem]:
    """What is wrong with a log, by number; empty: nothing.

    `lines`: all, as they are stored, in the order of their numbers. `end`: the newest line as the database says. `known`: heads
    that others hold: processes of the data plane, exports. `each` gets number and fields of each line that fits its hash.
    `believed`: whether a head that contradicts the log is to be believed; asked after `each` had the lines so far.
    """
    chain = _Chain(believed)
    heads: dict[int, list[Head]] = {}
    for head in known:
        heads.setdefault(head.number, []).append(head)
    for line in lines:
        found = chain.add(line)
        if found is not None:
            each(line.number, found)
        for head in heads.pop(line.number, ()):
            chain.compare(head, line)
    chain.end(end, [head for rest in heads.values() for head in rest])
    return sorted(chain.problems, key=lambda problem: problem.number)


@dataclass(slots=True)
class _Chain:
    believed: Callable[[Head], bool]
    problems: list[Problem] = field(default_factory=list)
    _last: AuditLine | None = None
    # The number that the last line names, and of all so far: the next one, and ranges that no line has named.
    _named: int = 0
    _due: int = 1
    _missing: list[range] = field(default_factory=list)
    # The line with the highest number, the first one in another one's place.
    _newest: AuditLine | None = None
    _moved: AuditLine | None = None

    def add(self, line: AuditLine) -> Mapping[str, Any] | None:
        """The line's fields, if it is what its hash says."""
        found = fields(line.line) if digest(line.line) == line.sha256 else None
        if found is None:
            self._found(Fault.ALTERED, line.number, f"line {line.number} was altered")
        # The place of an altered line is its row's.
        named = line.number if found is None else found["number"]
        if found is not None and named == self._named + 1 == self._due:
            self._follow(named, found["previous"])
        self._place(line, named)
        self._last, self._named = line, named
        return found

    def compare(self, head: Head, line: AuditLine) -> None:
        if head.sha256 != line.sha256 and self.believed(head):
            text = f"line {head.number} is not the one that {head.where or 'somebody'} holds: rolled back or rewritten"
            self._found(Fault.ROLLED_BACK, head.number, text)

    def end(self, end: Head, later: Sequence[Head]) -> None:
        last = self._due - 1
        for gap in self._missing:
            self._found(Fault.REMOVED, gap[0], f"{_lines(gap)} removed")
        if last > end.number:
            gap = range(end.number + 1, last + 1)
            self._found(Fault.ADDED, gap[0], f"{_lines(gap)} added after the newest change, {end.number}")
        elif last < end.number:
            gap = range(last + 1, end.number + 1)
            self._found(Fault.TRUNCATED, gap[0], f"{_lines(gap)} removed from the end")
        elif self._newest is not None and self._newest.sha256 != end.sha256:
            text = f"line {last} or its hash was altered: the newest change has another one"
            self._found(Fault.ALTERED, last, text)
        if self._moved is not None and not self.problems:
            self._found(Fault.REORDERED, self._moved.number, f"line {self._moved.number} says another number")
        for head in later:
            if head.number > last and self.believed(head):
                text = (
                    f"{head.where or 'somebody'} holds line {head.number}, the newest is {last}: rolled back"
                )
                self._found(Fault.ROLLED_BACK, head.number, text)

    def _place(self, line: AuditLine, named: int) -> None:
        due, self._due = self._due, max(self._due, named + 1)
        if line.number != named:
            self._moved = self._moved or line
        if named > due:
            self._missing.append(range(due, named))
        if named >= due:
            self._newest = line
            return
        for gap in self._missing:
            if named in gap:
                self._missing.remove(gap)
                self._missing += [g for g in (range(gap[0], named), range(named + 1, gap[-1] + 1)) if g]
                self._found(Fault.REORDERED, line.number, f"line {named} was moved to place {line.number}")
                return
        self._found(
            Fault.ADDED, line.number, f"line {line.number} was added: there is a line {named} already"
        )

    def _follow(self, named: int, previous: str) -> None:
        before = BEFORE_FIRST if self._last is None else self._last.sha256
        if previous != before.hex():
            text = f"line {named} does not continue the one before it: that one or its hash was altered"
            self._found(Fault.ALTERED, max(1, named - 1), text)

    def _found(self, fault: Fault, number: int, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(fault, number, text))


def _lines(gap: range) -> str:
    return f"line {gap[0]} was" if len(gap) == 1 else f"lines {gap[0]} to {gap[-1]} were"
