"""Takes the lines of the journals into the log: the process that holds the log's lock does so, four times a second."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from headrace.audit.journals import Journal
from headrace.audit.persons.payloads import Payload, Payloads
from headrace.audit.records import GAP, SALT_BYTES, Place, Record, commitment, decode, described
from headrace.audit.tiles import MAX_ENTRY, TileFiles
from headrace.audit.tree import WIDTH
from headrace.audit.writer import Writer
from headrace.state import atomic

# Lines that are taken from one journal before it is the next one's turn.
BATCH = 256
# So many entries get a checkpoint at once, however long ago the last one was: hashes of tiles wait in memory until then.
MOST_UNCOVERED = 1 << 16


class Collector:
    """`clock`: the time in UTC. Not for several threads at a time.

    `remembered`: a file with the places up to which the journals were read. It only saves time: the log itself says them.
    """

    def __init__(
        self,
        log: Writer,
        payloads: Payloads,
        journals: Sequence[Journal],
        clock: Callable[[], datetime],
        remembered: Path,
    ) -> None:
        self._log = log
        self._payloads = payloads
        self._journals = journals
        self._clock = clock
        self._remembered = remembered
        self._places = self._recovered()
        # How often a journal was not there, or not whole, since the start.
        self.gaps = 0

    def collect(self) -> int:
        """Takes up to a batch of each journal, and returns how many entries that made.

        Raises OSError if a journal can't be read or the log not be written; what the others have was taken, where
        that works.
        """
        first = self._log.size
        failed: OSError | None = None
        for journal in self._journals:
            try:
                self._collect(journal)
            except OSError as error:
                failed = failed or error
        if self._log.uncovered >= MOST_UNCOVERED:
            self.publish()
        if failed is not None:
            raise failed
        return self._log.size - first

    def publish(self) -> None:
        """Signs a checkpoint of all entries, if there are new ones. Raises OSError."""
        self._log.publish()
        content = {name: [p.file, p.line, p.end] for name, p in self._places.items()}
        # Without it, a start takes longer.
        with suppress(OSError):
            atomic.write(
                self._remembered, json.dumps({"size": self._log.size, "places": content}).encode(), mode=0o600
            )

    def _collect(self, journal: Journal) -> None:
        lines, why = journal.read(self._places.get(journal.name), BATCH)
        if not lines and not why:
            return
        records = []
        if why:
            at = self._clock().isoformat(timespec="milliseconds")
            records.append(Record(journal.name, at, GAP, Place(""), why=why))
        records += self._records(journal, lines)
        first = self._log.size
        self.gaps += bool(why)
        try:
            self._log.append([r.encode() for r in records])
        finally:
            # Those are on the disk, also if a later one is not.
            if done := self._log.size - first:
                self._places[journal.name] = records[done - 1].place

    def _records(self, journal: Journal, lines: Sequence[tuple[Place, str]]) -> list[Record]:
        """Raises OSError: the lines that tell of persons can't be stored."""
        plain = [Record(journal.name, *described(text), place, text=text) for place, text in lines]
        apart = [journal.personal or len(record.encode()) > MAX_ENTRY for record in plain]
        payloads = []
        for (_, text), separate in zip(lines, apart, strict=True):
            if separate:
                salt = secrets.token_bytes(SALT_BYTES)
                payloads.append(Payload(commitment(salt, text), salt, text))
        if not payloads:
            return plain
        segment, left = self._payloads.append(payloads), iter(payloads)
        return [
            Record(
                r.source, r.at[:64], r.kind[:64], r.place, commitment=next(left).commitment, segment=segment
            )
            if separate
            else r
            for r, separate in zip(plain, apart, strict=True)
        ]

    def _recovered(self) -> dict[str, Place]:
        """Where the journals go on, by the file of places and the entries that came after it."""
        size, places = _read_places(self._remembered)
        if size > self._log.size:
            size, places = 0, {}
        tiles = TileFiles(self._log.folder, self._log.size)
        for index in range(size // WIDTH, -(-self._log.size // WIDTH)):
            for number, entry in enumerate(tiles.bundle(index), index * WIDTH):
                if number < size:
                    continue
                with suppress(ValueError):
                    record = decode(entry)
                    places[record.source] = record.place
        return places


def _read_places(path: Path) -> tuple[int, dict[str, Place]]:
    """Size of the log and places of the journals then; from the start if the file is not there or of no use."""
    try:
        content = json.loads(path.read_bytes())
        places = {name: Place(file, line, end) for name, (file, line, end) in content["places"].items()}
        return int(content["size"]), places
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, {}
