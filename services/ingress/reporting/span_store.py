"""The local store of request traces: JSON lines in a few segments of bounded size. `headrace trace` reads it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_NAME = "spans-{:08d}.jsonl"


class SpanStore:
    """Appends traces to the newest segment; the oldest segment is deleted when there are too many.

    `write` blocks for as long as the kernel takes to copy a few kilobytes: call it from a thread.
    """

    def __init__(self, folder: Path, segment_bytes: int, segments: int) -> None:
        """Raises OSError if the folder can't be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._segments = segments
        found = self._numbers()
        self._torn = False
        self._number = found[-1] if found else 0

    def write(self, traces: Sequence[Mapping[str, Any]]) -> None:
        """Appends one line per trace. Raises OSError."""
        text = b"".join(json.dumps(t, separators=(",", ":")).encode() + b"\n" for t in traces)
        # Several processes may write, so each line is written with one append, which the kernel keeps whole.
        while not self._appended(self._folder / _NAME.format(self._number), text):
            self._number += 1
            self._drop_old()

    def _appended(self, path: Path, text: bytes) -> bool:
        """False if the segment does not have enough room. An empty segment always has enough."""
        with path.open("ab", buffering=0) as segment:
            if segment.tell() and segment.tell() + len(text) > self._segment_bytes:
                return False
            # A line that was written only in part because the disk was full must not damage the next line.
            whole = b"\n" + text if self._torn else text
            self._torn = True
            if segment.write(whole) < len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            self._torn = False
            return True

    def _drop_old(self) -> None:
        for number in self._numbers():
            if number <= self._number - self._segments:
                (self._folder / _NAME.format(number)).unlink(missing_ok=True)

    def _numbers(self) -> list[int]:
        names = (p.stem.removeprefix("spans-") for p in self._folder.glob("spans-*.jsonl"))
        return sorted(int(n) for n in names if n.isdecimal())
