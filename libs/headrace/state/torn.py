"""Torn lines: what a power loss has left of the last line of a file that only grows. Nobody was answered on its account.

Whoever appends next ends it with a mark: a record separator, which no JSON text holds, and a JSON object.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MARK = b'\x1e{"torn": true'


class Torn(NamedTuple):
    """`line`: its number, from 1; `at`: bytes into the file; `content`: what there is of it."""

    line: int
    at: int
    content: bytes


def ending(tail: bytes) -> bytes:
    """What must precede the next line of a file that ends with `tail`, if its lines are not a chain."""
    return MARK + b"}\n" if tail and not tail.endswith(b"\n") else b""


def marked(line: bytes) -> bytes | None:
    """The JSON object with which a torn line was ended; None: it is not torn."""
    begin = line.rfind(MARK)
    return None if begin < 0 else line[begin + 1 :]


def lines(path: Path) -> list[Torn]:
    """The torn lines of a file, the last one too if nobody has ended it yet. Raises OSError."""
    content = path.read_bytes()
    if content.endswith(b"\n") and MARK not in content:
        return []
    found, at = [], 0
    for number, line in enumerate(content.split(b"\n"), 1):
        last = at + len(line) == len(content)
        if line and (last or MARK in line):
            found.append(Torn(number, at, line.partition(MARK)[0]))
        at += len(line) + 1
    return found
