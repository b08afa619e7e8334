"""Compares journals with the batches of their lines that the audit's chain has."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.audit.access import READINGS
from headrace.audit.journals import Batch, Journal, batch_digest, erased_digest, line_digest
from headrace.state import json_lines

# What control writes into the chain, and the kind of the record with a journal's position, which only control writes.
BATCH, GAP, EXPIRE = "journal.batch", "journal.gap", "journal.expire"
RECORD = "journal"


@dataclass(slots=True)
class _Chained:
    """What the chain has of one journal. `batches`: by file, with the number and epoch of their line."""

    batches: defaultdict[str, list[tuple[int, int, Batch]]] = field(default_factory=lambda: defaultdict(list))
    expired: set[str] = field(default_factory=set)


class JournalVerification:
    """Takes all lines of the chain; then `findings` has what is wrong and `notes` what a reader should know."""

    def __init__(self, journals: Sequence[Journal]) -> None:
        self._journals = {journal.name: journal for journal in journals}
        self._chained: defaultdict[str, _Chained] = defaultdict(_Chained)
        self._epoch = 0
        self.notes: list[str] = []
        self.findings: list[str] = []
        # Lines that batches have.
        self.counts: dict[str, int] = {}

    def add(self, number: int, fields: Mapping[str, Any]) -> None:
        """A line of the chain."""
        self._epoch = max(self._epoch, fields["epoch"])
        action, name, details = fields["action"], fields["subject"], fields["details"]
        # Others may write such a line too, but none that writes a journal's record.
        if not any(written["kind"] == RECORD for written in fields["writes"]):
            return
        if action == BATCH:
            with suppress(KeyError, ValueError):
                batch = Batch.of(details)
                self._chained[name].batches[batch.file].append((number, fields["epoch"], batch))
                self.counts[name] = self.counts.get(name, 0) + batch.last - batch.first + 1
        elif action == EXPIRE:
            self._chained[name].expired.add(details.get("file", ""))
        elif action == GAP:
            self.notes.append(f"line {number}: journal {name}, {fields['at']}: {fields['reason']}")

    def compare(self) -> None:
        """Reads the journals. Those that are not known here are left out, with a note."""
        erased = self._recorded_erasures()
        for name, chained in sorted(self._chained.items()):
            journal = self._journals.get(name)
            if journal is None:
                self.notes.append(f"journal {name} is not on this machine: its lines were not compared")
                continue
            try:
                self._compare(journal, chained, erased)
            except OSError as error:
                self._found(name, f"{error.filename or journal.path} can't be read ({error.strerror})")

    def _compare(self, journal: Journal, chained: _Chained, erased: set[str]) -> None:
        files = {identity: path for path, identity in journal.files()}
        for file, batches in chained.batches.items():
            if file in files:
                self._compare_file(journal.name, files[file], batches, erased)
            elif file not in chained.expired:
                last = batches[-1][2].last
                text = (
                    f"its file with lines 1 to {last} that began with {file} is not there any more,"
                    " or its first line was altered"
                )
                self._missing(journal.name, text, batches[-1][1])

    def _compare_file(
        self, name: str, path: Path, batches: list[tuple[int, int, Batch]], erased: set[str]
    ) -> None:
        digests = []
        with path.open("rb") as lines:
            for number, line in enumerate((line for line in lines if line.endswith(b"\n")), 1):
                digests.append(line_digest(line))
                gone = erased_digest(line)
                if gone is not None and gone not in erased:
                    self._found(name, f"{path.name} line {number} was erased, and no erasure was recorded")
        short = [(epoch, batch) for _, epoch, batch in batches if batch.last > len(digests)]
        if short:
            epoch, batch = short[-1]
            text = f"{path.name} has {len(digests)} lines; lines to {batch.last} were removed from its end"
            self._missing(name, text, epoch)
        for number, _, batch in batches:
            found = digests[batch.first - 1 : batch.last]
            if batch.last <= len(digests) and batch_digest(found) != batch.sha256:
                text = f"{path.name} lines {batch.first} to {batch.last} are not those of line {number} of the audit"
                self._found(name, f"{text}: altered, removed or added")

    def _missing(self, name: str, text: str, epoch: int) -> None:
        """Of an epoch that people have ended, lines may be missing: a backup has no newer ones."""
        if epoch < self._epoch:
            self.notes.append(f"journal {name}: {text} (before the history was begun anew)")
        else:
            self._found(name, text)

    def _found(self, name: str, text: str) -> None:
        self.findings.append(f"journal {name}: {text}")

    def _recorded_erasures(self) -> set[str]:
        """Hashes of the lines whose erasure was recorded, those too that the chain does not have yet."""
        found: set[str] = set()
        if (journal := self._journals.get(READINGS)) is not None:
            with suppress(OSError), journal.path.open("rb") as lines:
                for line in lines:
                    with suppress(ValueError, AttributeError, RecursionError):
                        about = json.loads(line)
                        if about.get("event") == "erased":
                            found.update(about.get("lines", ()))
        return found


def torn_lines(journals: Sequence[Journal]) -> Iterator[str]:
    """Lines of the journals that a power loss or a full disk cut off: no sign of tampering."""
    for journal in journals:
        for path in journal.paths():
            with suppress(OSError):
                for line in json_lines.torn_lines(path):
                    place = f"journal {journal.name}: {path}, line {line.line} (byte {line.at})"
                    yield f"{place}: a write was cut off; the journal goes on after it"
