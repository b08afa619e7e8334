"""What an entry of the audit log says: one line of a journal, or a commitment to it.

An entry is a JSON object: `source` (the journal), `at`, `kind`, where in the journal the line stood (`file`, `line`, `end`), and
either `text`, the line as it was, or `commitment` and `segment`: the line tells of persons, so it lies in a segment that can be
deleted (payloads.py), and the entry holds SHA-256 over a secret salt of 32 bytes and the line. Without the salt nobody can guess
the line from the commitment, so erasing both leaves nothing, and the tree of the log stays valid.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from headrace.state import torn

SALT_BYTES = 32
# Something happened to a journal itself; these entries have no line.
GAP = "journal_gap"
# The keys with texts, `file` first, then as they come in Record.
_TEXTS = ("file", "source", "at", "kind", "text", "commitment", "segment", "why")
_STRINGS = {str}


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a journal: after line `line` (from 1; 0: at the start), `end` bytes into the file.

    `file`: which file it is, the start of the hash of its first line, as files are renamed.
    """

    file: str
    line: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """An entry. Of `text` and `commitment` one is empty, or both where something happened to the journal (`why`)."""

    source: str
    at: str
    kind: str
    place: Place
    text: str = ""
    commitment: str = ""
    segment: str = ""
    why: str = ""

    def encode(self) -> bytes:
        """As it stands in the log."""
        about = {
            "source": self.source,
            "at": self.at,
            "kind": self.kind,
            "file": self.place.file,
            "line": self.place.line,
            "end": self.place.end,
            "text": self.text,
            "commitment": self.commitment,
            "segment": self.segment,
            "why": self.why,
        }
        filled = {key: value for key, value in about.items() if value != ""}
        return json.dumps(filled, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogateescape"
        )


def decode(entry: bytes) -> Record:
    """Raises ValueError: it is no such entry."""
    try:
        about = json.loads(entry.decode("utf-8", "surrogateescape"))
        line, end = about.get("line"), about.get("end")
        texts = [about.get(key, "") for key in _TEXTS]
    except (AttributeError, RecursionError):
        raise ValueError("it is no JSON object, or nested too deeply") from None
    if type(line) is not int or type(end) is not int or set(map(type, texts)) != _STRINGS:
        raise ValueError("a key of it is of a wrong type")
    file, source, at, kind, *rest = texts
    return Record(source, at, kind, Place(file, line, end), *rest)


def commitment(salt: bytes, text: str) -> str:
    """The commitment to a line, hexadecimal."""
    return hashlib.sha256(salt + text.encode("utf-8", "surrogateescape")).hexdigest()


def described(text: str) -> tuple[str, str]:
    """When a line says that it was written, and of what kind it is; empty where it does not."""
    if torn.marked(text.encode("utf-8", "surrogateescape")) is not None:
        return "", "torn"
    try:
        about: Any = json.loads(text)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(about, dict):
        return "", ""
    at = about.get("at", about.get("time", ""))
    kind = about.get("event", about.get("kind", ""))
    return _plain(at), _plain(kind)


def _plain(value: object) -> str:
    """A text that can be encoded: JSON may name halves of characters."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
