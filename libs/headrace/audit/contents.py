"""What the entries of a log say, against the journals they were taken from and the payloads they are commitments to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from headrace.audit.journals import Journal, identity_of
from headrace.audit.persons.payloads import Payload, Payloads
from headrace.audit.records import GAP, Place, Record, decode
from headrace.state import chain

# The journal of readings and erasures.
ACTS = "audit"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be, and where."""

    where: str
    text: str


_START = Place("")


@dataclass(slots=True)
class _Source:
    """What the log has of one journal. `digests`: of the lines of its present file, if it is a chain."""

    place: Place = _START
    digests: list[bytes] = field(default_factory=list)


class Contents:
    """Takes all entries in their order; then tells what is wrong."""

    def __init__(self, journals: Sequence[Journal], payloads: Payloads | None) -> None:
        self._journals = {journal.name: journal for journal in journals}
        self._payloads = payloads
        self._sources: dict[str, _Source] = {}
        self._segment: tuple[str, dict[str, Payload]] = ("", {})
        self._segment_gone = False
        self._whole = True
        # Of segments that are not there: the last entry that names it, and how many do.
        self._gone: dict[str, tuple[int, int]] = {}
        self._missing: dict[tuple[str, str], int] = {}
        self._erased: set[str] = set()
        self._erased_but_named: dict[str, int] = {}
        self._expired: set[str] = set()
        self._found: list[Finding] = []
        # Lines that a power loss cut off, and what there is of them.
        self.torn: list[Finding] = []
        self._parts: dict[tuple[str, int], bytes] = {}
        self._find_torn()
        self.notes: list[str] = []
        self.counts: Counter[str] = Counter()

    def take(self, first: int, entries: Sequence[bytes]) -> None:
        """`first`: the index of the first of these entries."""
        for number, entry in enumerate(entries, first):
            try:
                record = decode(entry)
            except ValueError as error:
                self._found.append(
                    Finding(f"entry {number}", f"it was not made by this log's writer: {error}")
                )
                continue
            self.counts[record.source] += 1
            self._follow(number, record)
            if record.commitment and self._payloads is not None:
                self._check_payload(number, record)
            if record.source == ACTS:
                self._note_erasure(record.text)

    def skip(self) -> None:
        """Entries can't be read here: what follows is checked, but the journals can't be compared as a whole."""
        self._sources.clear()
        self._whole = False

    def findings(self) -> list[Finding]:
        """What is wrong, once all entries were taken."""
        for journal in self._journals.values():
            if journal.chained and self._whole:
                self._found += self._compare(journal, self._sources.get(journal.name, _Source()))
        self._explain_missing()
        return self._found

    def _follow(self, number: int, record: Record) -> None:
        """The lines of a journal must come one after the other."""
        source = self._sources.setdefault(record.source, _Source())
        if record.kind == GAP and not record.text:
            self.notes.append(f"entry {number}: journal {record.source}, {record.at}: {record.why}")
            self._sources[record.source] = _Source()
            return
        before, here = source.place, record.place
        if here.file == before.file and here.line != before.line + 1:
            text = f"line {here.line} of journal {record.source} follows on line {before.line}: lines were left out or come twice"
            self._found.append(Finding(f"entry {number}", text))
        if here.file != before.file:
            source.digests.clear()
        source.place = here
        journal = self._journals.get(record.source)
        if journal is not None and journal.chained:
            whole, part = (
                record.text.encode("utf-8", "surrogateescape"),
                self._parts.get((journal.name, here.line)),
            )
            compared = whole and (part is None or not whole.startswith(part))
            source.digests.append(hashlib.sha256(whole).digest() if compared else b"")

    def _find_torn(self) -> None:
        for name, journal in self._journals.items():
            with suppress(OSError):
                for path, line in journal.torn():
                    text = f"{path}, line {line.line} (byte {line.at}): a write was cut off; the journal goes on after it"
                    self.torn.append(Finding(f"journal {name}", text))
                    # A file system may have filled it up with zeros.
                    self._parts[name, line.line] = line.content.rstrip(b"\0")

    def _compare(self, journal: Journal, source: _Source) -> list[Finding]:
        """A chain as it is now, with the lines that the log has of it."""
        found: list[str] = []
        try:
            found.extend(_differences(journal, source, self._parts.get((journal.name, 1))))
            for _ in chain.entries(journal.path):
                pass
        except FileNotFoundError:
            if source.digests:
                found = [f"{journal.path} was removed; the log has its lines"]
        except ValueError as error:
            found.append(str(error))
        except OSError as error:
            found.append(f"{journal.path} can't be read ({error.strerror})")
        return [Finding(f"journal {journal.name}", text) for text in found]

    def _check_payload(self, number: int, record: Record) -> None:
        payload = self._payload(record)
        if payload is None and self._segment_gone:
            _, count = self._gone.get(record.segment, (number, 0))
            self._gone[record.segment] = number, count + 1
        elif payload is None:
            self._missing[record.segment, record.commitment] = number
        elif payload.erased:
            self._erased_but_named[record.commitment] = number
        elif not payload.holds:
            text = f"its line in segment {record.segment} is not the one that was committed to: altered"
            self._found.append(Finding(f"entry {number}", text))

    def _payload(self, record: Record) -> Payload | None:
        assert self._payloads is not None
        if self._segment[0] != record.segment:
            payloads: dict[str, Payload] = {}
            self._segment_gone = False
            try:
                payloads = self._payloads.read(record.segment)
            except OSError:
                self._segment_gone = True
            self._segment = record.segment, payloads
        return self._segment[1].get(record.commitment)

    def _note_erasure(self, text: str) -> None:
        try:
            act = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(act, dict) and act.get("event") == "erased":
            self._erased.update(str(c) for c in act.get("commitments", ()))
        elif isinstance(act, dict) and act.get("event") == "expired":
            self._expired.add(str(act.get("segment")))

    def _explain_missing(self) -> None:
        """What an erasure was recorded of may be missing; all else may not."""
        pending = self._journals.get(ACTS)
        for text in _pending(pending, self._sources.get(ACTS, _Source())) if pending else ():
            self._note_erasure(text)
        for (segment, commitment), number in self._missing.items():
            if commitment not in self._erased:
                text = f"its line is missing from segment {segment}, and no erasure was recorded"
                self._found.append(Finding(f"entry {number}", text))
        for segment, (number, count) in self._gone.items():
            if segment not in self._expired:
                text = f"segment {segment} with {count} lines is not there, and its removal was not recorded"
                self._found.append(Finding(f"entries to {number}", text))
        for commitment, number in self._erased_but_named.items():
            if commitment not in self._erased:
                self._found.append(
                    Finding(f"entry {number}", "its line was erased, and no erasure was recorded")
                )
        erased = len(self._missing) + len(self._erased_but_named) + sum(n for _, n in self._gone.values())
        if erased:
            self.notes.append(f"{erased} lines that told of persons are not there any more")


def _differences(journal: Journal, source: _Source, torn_first: bytes | None) -> Iterator[str]:
    """Raises OSError."""
    lines, known = 0, source.place.file
    if torn_first is None and known and identity_of(journal.path) not in (known, ""):
        yield f"{journal.path} does not begin with the line that the log has: replaced, or its first line was altered"
        return
    with journal.path.open("rb") as file:
        for lines, line in enumerate(file, 1):
            said = source.digests[lines - 1] if lines <= len(source.digests) else b""
            if said and hashlib.sha256(line.rstrip(b"\n")).digest() != said:
                yield f"{journal.path}, line {lines} is not the one that the log has: altered"
    if lines < len(source.digests):
        yield f"{journal.path} has {lines} lines; the log has {len(source.digests)} of it: some were removed at the end"


def _pending(journal: Journal, source: _Source) -> Iterator[str]:
    """Lines that the log does not have yet."""
    try:
        with journal.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number > len(source.digests):
                    yield line.decode("utf-8", "surrogateescape")
    except OSError:
        return
