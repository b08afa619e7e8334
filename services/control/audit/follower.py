"""Follows journals: each batch of new lines is a line of the audit's chain, by its hash.

How far a journal was read is a record, which changes with the line: so a batch is in the chain once, whoever follows and
whenever it is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from headrace.audit.journal_verification import BATCH, EXPIRE, GAP, RECORD
from headrace.audit.journals import Journal, JournalPosition
from headrace.catalog.access import Change, Records, Write
from headrace.catalog.errors import RecordChangedError
from headrace.state import atomic

# Lines of one line of the audit, at most.
MAX_LINES = 4096
_ACTOR = "control"


class JournalFollower:
    """`records`: raises RecordsUnavailableError while there are none. `gap`: hears of a journal and what happened to it. `wall`:
    seconds since 1970. Not for several threads at a time."""

    def __init__(
        self,
        records: Callable[[], Records],
        journals: Sequence[Journal],
        gap: Callable[[str, str], None],
        wall: Callable[[], float],
        retention_s: float,
        retention_bytes: int,
    ) -> None:
        self._records = records
        self._journals = journals
        self._gap = gap
        self._wall = wall
        self._retention_s = retention_s
        self._retention_bytes = retention_bytes

    def follow(self) -> bool:
        """One batch of each journal at most; returns whether one was full, so that there may be more. Blocks.

        Raises RecordsError; OSError: a journal can't be read. What the others have was written, where that works.
        """
        more, failed = False, None
        for journal in self._journals:
            try:
                more = self._follow(journal) or more
            except RecordChangedError:
                continue  # another process of control follows it, too
            except OSError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return more

    def expire(self) -> None:
        """Deletes files of journals that were renamed, read and are old, or too many. Raises RecordsError, OSError."""
        for journal in self._journals:
            position, version = self._position(journal)
            files = journal.files()
            read = [identity for _, identity in files]
            # The one that is read now, and all after it, stay.
            done = read.index(position.file) if position.file in read else 0
            size = sum(path.stat().st_size for path, _ in files)
            for path, identity in files[:done]:
                about = path.stat()
                if self._wall() - about.st_mtime > self._retention_s:
                    reason = "retention by age"
                elif size > self._retention_bytes:
                    reason = "retention by size"
                else:
                    break
                details = {"file": identity, "bytes": str(about.st_size)}
                self._change(journal, EXPIRE, position, version, details, reason)
                version += 1
                self._remove(journal, path, identity)
                size -= about.st_size

    def _follow(self, journal: Journal) -> bool:
        position, version = self._position(journal)
        found = journal.read(position, MAX_LINES)
        if found.problem:
            self._change(journal, GAP, found.position, version, {}, found.problem)
            self._gap(journal.name, found.problem)
        if (batch := found.batch) is None:
            return False
        self._change(journal, BATCH, found.position, version, batch.details())
        if found.torn:
            lines = ", ".join(map(str, found.torn[:20]))
            problem = (
                f"a power loss or a full disk cut off line {lines} of the file that begins with {batch.file}"
            )
            self._change(journal, GAP, found.position, version + 1, {}, problem)
            self._gap(journal.name, problem)
        return batch.last - batch.first + 1 == MAX_LINES

    def _position(self, journal: Journal) -> tuple[JournalPosition, int]:
        """How far it was read, and the version of the record that says so."""
        for record in self._records().read(RECORD, journal.name):
            if record.content is not None:
                return JournalPosition.from_bytes(record.content), record.version
            return JournalPosition(), record.version
        return JournalPosition(), 0

    def _change(
        self,
        journal: Journal,
        action: str,
        position: JournalPosition,
        version: int,
        details: Mapping[str, str],
        reason: str = "",
    ) -> None:
        write = Write(RECORD, journal.name, position.to_bytes(), version)
        self._records().change(Change(_ACTOR, action, journal.name, [write], reason, details))

    @staticmethod
    def _remove(journal: Journal, path: Path, identity: str) -> None:
        with journal.locked():
            # It may have another name by now.
            for current, found in journal.files():
                if found == identity:
                    current.unlink()
            atomic.sync_folder(path.parent)
