"""Copies the audit that machines share in Redis into a file of this home, from which the audit log takes it.

The file is a hash chain of its own, as Redis keeps only the newest lines and may lose or be made to change them: each line of it
holds one of Redis as it was, with its number and hash there, or says what happened to the chain there (`shared_gap`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from headrace.releases.records.shared import KEPT, Place, SharedChain
from headrace.state import chain

GAP = "shared_gap"
# A longer line of Redis was not made by us: its hash is kept alone. A line of the file stays below 64 KiB with it.
_MAX_LINE = 10_000


class SharedCopy:
    """Copies into `path`. Processes of one machine may share it: one of them copies at a time. Not for several threads.

    `clock`: the time in UTC.
    """

    def __init__(self, shared: SharedChain, path: Path, clock: Callable[[], datetime]) -> None:
        self._shared = shared
        self._path = path
        self._clock = clock
        # Hashes of what was copied, by number; of as many lines as Redis keeps.
        self._known: dict[int, str] = {}
        self._size = -1
        # What was said of the chain while this was its end.
        self._said: tuple[Place, set[str]] = (Place(0, ""), set())
        # How often the chain in Redis was not as it should be, since the start.
        self.gaps = 0

    def follow(self, *, whole: bool = False) -> int:
        """Copies what is new, and returns how many lines. `whole`: what was copied before is compared as well.

        Raises OSError: Redis can't be read or the file not be written.
        """
        with self._locked() as ours:
            if not ours:
                return 0
            self._recover()
            lines, head = self._read(whole)
            if self._said[0] != head:
                self._said = head, set()
            whys = [why for why in self._wrong(lines, head) if why not in self._said[1]]
            new = [(place, line) for place, line in lines if self._known.get(place.number) != place.sha256]
            if whys or new:
                made = [*(self._gap(why, head) for why in whys), *(_copied(*line) for line in new)]
                chain.extend(self._path, made)
                self._size = self._path.stat().st_size
            self._note(whys, new, head)
        return len(new)

    def _read(self, whole: bool) -> tuple[list[tuple[Place, bytes]], Place]:
        """The lines that are new and the one before, or all."""
        last = max(self._known, default=0)
        lines, head = self._shared.newest(1)
        known = bool(lines) and self._known.get(head.number) == lines[0][0].sha256
        if known and head.number == last and not whole:
            return lines, head
        grown = last <= head.number and not whole
        return self._shared.newest(min(head.number - last + 1, KEPT) if grown else KEPT)

    def _wrong(self, lines: Sequence[tuple[Place, bytes]], head: Place) -> Iterator[str]:
        last = max(self._known, default=0)
        if head.number < last:
            yield f"Redis says {head.number} lines, and {last} were copied: it lost some, or an older state was put back"
        first = lines[0][0].number if lines else head.number + 1
        if first > last + 1:
            yield f"lines {last + 1} to {first - 1} were gone before they were copied"
        before = ""
        for place, line in lines:
            if self._known.get(place.number, place.sha256) != place.sha256:
                yield f"line {place.number} is not the one that was copied: altered, or the chain was written anew"
            if before and _previous(line) != before:
                yield f"line {place.number} does not follow on the one before: altered, removed or added"
            before = place.sha256
        if before and before != head.sha256:
            yield f"line {head.number} is not the last that was written: altered or removed"

    def _note(self, whys: Sequence[str], new: Sequence[tuple[Place, bytes]], head: Place) -> None:
        self.gaps += len(whys)
        self._said[1].update(whys)
        self._known = {number: sha for number, sha in self._known.items() if number <= head.number}
        self._known |= {place.number: place.sha256 for place, _ in new}
        self._forget()

    def _forget(self) -> None:
        for number in sorted(self._known)[:-KEPT]:
            del self._known[number]

    def _recover(self) -> None:
        """What the file has, if another process wrote it meanwhile. Raises OSError."""
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size == self._size:
            return
        self._known = {}
        if size:
            with self._path.open("rb") as file:
                for line in file:
                    self._take_up(line)
        self._forget()
        self._size = size

    def _take_up(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            number, sha = entry.get("shared_number"), entry.get("shared_sha256")
            count = entry.get("shared_count")
        except (ValueError, AttributeError, RecursionError):
            return  # `headrace audit verify` finds it
        if isinstance(count, int):
            self._known = {n: s for n, s in self._known.items() if n <= count}
        elif isinstance(number, int):
            self._known[number] = str(sha)

    def _gap(self, why: str, head: Place) -> dict[str, object]:
        at = self._clock().isoformat(timespec="milliseconds")
        return {"at": at, "event": GAP, "why": why, "shared_count": head.number}

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(
            self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            yield False
            return
        try:
            yield True
        finally:
            os.close(lock)


def _copied(place: Place, line: bytes) -> dict[str, object]:
    entry = _entry(line)
    told: dict[str, object] = {key: str(entry[key])[:64] for key in ("at", "event") if key in entry}
    text = {"line": line.decode("utf-8", "backslashreplace")} if len(line) <= _MAX_LINE else {}
    return {**told, "shared_number": place.number, "shared_sha256": place.sha256, **text}


def _previous(line: bytes) -> object:
    return _entry(line).get("previous")


def _entry(line: bytes) -> dict[str, Any]:
    """Empty if it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
