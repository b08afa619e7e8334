"""Whether the audit is whole, and the records are what it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from headrace.audit import chain
from headrace.audit.chain import AuditLine, Fault, Problem
from headrace.catalog import changes
from headrace.catalog.access import KEPT_VERSIONS, Position
from headrace.catalog.records import PAGE, CatalogRecords
from headrace.catalog.tables import RECORDS

_Version = tuple[str, str, int]


def verify(records: CatalogRecords, known: Iterable[chain.Head] = ()) -> list[Problem]:
    """What was done to the audit or to records behind its back, by number; empty: nothing. `known`: heads that others hold."""
    held = list(known)
    return records.database.query(lambda connection: _verify(connection, held))


def _verify(connection: sa.Connection, known: list[chain.Head]) -> list[Problem]:
    position, _ = changes.newest(connection)
    comparison = _Comparison(dict(_stored(connection)))
    end = chain.Head(position.number, position.head)
    problems = chain.verify(_lines(connection), end, known, comparison.add)
    # Without its lines nothing can be said of the records.
    return problems or comparison.problems(position)


def _lines(connection: sa.Connection) -> Iterator[AuditLine]:
    after = 0
    while page := changes.lines(connection, after, PAGE):
        yield from page
        after = page[-1].number


def _stored(connection: sa.Connection) -> Iterator[tuple[_Version, tuple[int, str | None]]]:
    """Each version that is there, with the number of its change and the hash of its content."""
    for row in connection.execute(sa.select(RECORDS), execution_options={"yield_per": 100}):
        sha256 = None if row.content is None else chain.digest(row.content).hex()
        yield (row.kind, row.name, row.version), (row.number, sha256)


@dataclass(slots=True)
class _Comparison:
    # What is stored and no line has named yet.
    stored: dict[_Version, tuple[int, str | None]]
    # Of each record: the versions that must be there, and how many of them were as their lines say.
    _due: dict[tuple[str, str], range] = field(default_factory=dict)
    _right: dict[tuple[str, str], int] = field(default_factory=dict)
    _epoch: int = 0
    _problems: list[Problem] = field(default_factory=list)

    def add(self, number: int, fields: Mapping[str, Any]) -> None:
        """A line of the audit."""
        self._epoch = fields["epoch"]
        for written in chain.written(fields):
            record = (written.kind, written.name)
            oldest = self._due.get(record, range(1, 1)).start
            if written.sha256 is None:
                oldest = written.version
            oldest = max(oldest, written.version - KEPT_VERSIONS + 1)
            self._due[record] = range(oldest, written.version + 1)
            stored = self.stored.pop((*record, written.version), None)
            if stored == (number, written.sha256):
                self._right[record] = self._right.get(record, 0) + 1
            elif stored is not None:
                text = (
                    f"{written.kind} {written.name} version {written.version} is not what line {number} says"
                )
                self._problems.append(Problem(Fault.ALTERED, number, text))

    def problems(self, end: Position) -> list[Problem]:
        found = self._problems
        if end.epoch != self._epoch:
            text = f"the database says epoch {end.epoch}, its newest line {self._epoch}"
            found.append(Problem(Fault.ALTERED, end.number, text))
        for (kind, name, version), (number, _) in self.stored.items():
            found.append(Problem(Fault.ADDED, number, f"no line says {kind} {name} version {version}"))
        if not found:
            for (kind, name), due in self._due.items():
                if self._right.get((kind, name), 0) != len(due):
                    text = (
                        f"of {kind} {name}, versions {due[0]} to {due[-1]} should be there, and some are not"
                    )
                    found.append(Problem(Fault.REMOVED, 0, text))
        return found[: chain.MAX_PROBLEMS]
