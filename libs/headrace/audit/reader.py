"""Reads entries and proofs, for whoever may: each reading is recorded before anything is read."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace.audit import tree
from headrace.audit.access import Access
from headrace.audit.notes import Checkpoint, NoteError, Verifier, opened
from headrace.audit.persons.payloads import Payload, Payloads
from headrace.audit.records import Place, Record, decode
from headrace.audit.tiles import CHECKPOINT, TileFiles
from headrace.audit.tree import WIDTH


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. `line`: what the journal said; empty: it tells of persons and was not asked for, or was erased."""

    index: int
    record: Record
    line: str


@dataclass(frozen=True, slots=True)
class Proof:
    """An entry, the hashes that prove that it is in the log (RFC 6962), and the signed checkpoint that they lead to."""

    index: int
    entry: bytes
    hashes: tuple[bytes, ...]
    checkpoint: bytes

    def told(self, key: Verifier) -> dict[str, object]:
        """As JSON, for whoever verifies it elsewhere; `key`: the log's."""
        return {
            "index": self.index,
            "entry": base64.b64encode(self.entry).decode(),
            "text": self.entry.decode("utf-8", "replace"),
            "proof": [base64.b64encode(h).decode() for h in self.hashes],
            "checkpoint": self.checkpoint.decode(),
            "key": str(key),
        }


@dataclass(frozen=True, slots=True)
class Proven:
    """An entry as a list shows it. `holds`: its proof leads to the checkpoint's root."""

    entry: Entry
    proof: Proof
    holds: bool


@dataclass(frozen=True, slots=True)
class Newest:
    """Entries that the checkpoint covers, the newest first."""

    checkpoint: Checkpoint
    note: bytes
    entries: tuple[Proven, ...]


class Reader:
    """Reads the log in `folder`. `verifier`: the log's public key.

    Of all methods: `who` and `scopes` are the caller's. They raise AccessError: it may not, or that it reads can't be recorded;
    NoteError, TileError: the log is damaged; OSError.
    """

    def __init__(self, folder: Path, verifier: Verifier, access: Access, payloads: Payloads) -> None:
        self._folder = folder
        self._verifier = verifier
        self._access = access
        self._payloads = payloads

    def entries(
        self,
        who: str,
        scopes: Iterable[str],
        *,
        first: int = 0,
        limit: int | None = None,
        source: str = "",
        persons: bool = False,
    ) -> Iterator[Entry]:
        """Up to `limit` entries that the checkpoint covers, from `first` on; `source`: only those of this journal."""
        about = {"source": source, "persons": "yes" if persons else "", "from": str(first)}
        self._access.allow("read" if limit is not None else "exported", who, scopes, **about)
        checkpoint, _ = self._checkpoint()
        payloads = _Lines(self._payloads if persons else None)
        found = self._found(TileFiles(self._folder, checkpoint.size), first, source, payloads)
        return found if limit is None else (entry for _, entry in zip(range(limit), found, strict=False))

    def newest(self, who: str, scopes: Iterable[str], limit: int, *, before: int | None = None) -> Newest:
        """Up to `limit` entries below `before` (None: the end), each verified against the checkpoint; without the lines that
        tell of persons."""
        about = {"limit": str(limit), "before": "" if before is None else str(before), "proofs": "yes"}
        self._access.allow("read", who, scopes, **about)
        checkpoint, note = self._checkpoint()
        end = checkpoint.size if before is None else max(min(before, checkpoint.size), 0)
        first, tiles, lines = max(end - limit, 0), TileFiles(self._folder, checkpoint.size), _Lines(None)
        found = [
            self._proven(entry, tiles, checkpoint, note)
            for entry in self._found(tiles, first, "", lines)
            if entry.index < end
        ]
        return Newest(checkpoint, note, tuple(reversed(found)))

    def prove(self, who: str, scopes: Iterable[str], index: int) -> Proof:
        """The proof of an entry. Raises ValueError: there is none with that number."""
        self._access.allow("proved", who, scopes, entry=str(index))
        checkpoint, note = self._checkpoint()
        if not 0 <= index < checkpoint.size:
            raise ValueError(
                f"there is no entry {index}; the checkpoint has entries 0 to {checkpoint.size - 1}"
            )
        proof, holds = _proof(TileFiles(self._folder, checkpoint.size), checkpoint, note, index)
        if not holds:
            raise NoteError(f"entry {index} is not the one that the checkpoint covers: it was altered")
        return proof

    @staticmethod
    def _proven(entry: Entry, tiles: TileFiles, checkpoint: Checkpoint, note: bytes) -> Proven:
        return Proven(entry, *_proof(tiles, checkpoint, note, entry.index))

    def _checkpoint(self) -> tuple[Checkpoint, bytes]:
        note = (self._folder / CHECKPOINT).read_bytes()
        return opened(note, self._verifier)[0], note

    def _found(self, tiles: TileFiles, first: int, source: str, lines: _Lines) -> Iterator[Entry]:
        for index in range(first // WIDTH, -(-tiles.size // WIDTH)):
            for number, entry in enumerate(tiles.bundle(index), index * WIDTH):
                try:
                    record = decode(entry)
                except ValueError as error:
                    record = Record("", "", "", Place(""), why=f"not made by this log's writer: {error}")
                if number >= first and source in ("", record.source):
                    yield Entry(number, record, record.text or lines.line(record))


def _proof(tiles: TileFiles, checkpoint: Checkpoint, note: bytes, index: int) -> tuple[Proof, bool]:
    """The proof of an entry, and whether it leads to the checkpoint's root."""
    entry, hashes = tiles.entry(index), tree.inclusion_proof(index, checkpoint.size, tiles.node)
    holds = tree.includes(tree.leaf_hash(entry), index, checkpoint.size, hashes, checkpoint.root)
    return Proof(index, entry, tuple(hashes), note), holds


class _Lines:
    """Lines by their commitments; one segment is in memory."""

    def __init__(self, payloads: Payloads | None) -> None:
        self._payloads = payloads
        self._segment = ""
        self._known: dict[str, Payload] = {}

    def line(self, record: Record) -> str:
        """The line; empty: there is none any more."""
        if self._payloads is None or not record.commitment:
            return ""
        if record.segment != self._segment:
            self._segment = record.segment
            try:
                self._known = self._payloads.read(record.segment)
            except OSError:
                self._known = {}
        found = self._known.get(record.commitment)
        return found.text if found is not None and found.holds else ""
