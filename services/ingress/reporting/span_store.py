"""The local store of request traces: JSON lines in a few files of bounded size. `headrace trace` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.state import json_lines, traces


class SpanStore:
    """Appends traces to a file; one that is full is renamed, and the oldest is deleted when there are too many.

    `write` blocks: call it from a thread. Several processes may write.
    """

    def __init__(self, folder: Path, segment_bytes: int = 8 * 1024 * 1024, old: int = 3) -> None:
        """`old`: files besides the one that is written."""
        self._file = folder / traces.FILE
        self._segment_bytes = segment_bytes
        self._old = old

    def write(self, found: Sequence[Mapping[str, Any]]) -> None:
        """Appends one line per trace. Raises OSError: none was written."""
        text = b"".join(json.dumps(trace, separators=(",", ":")).encode() + b"\n" for trace in found)
        json_lines.append_rotated(self._file, text, self._segment_bytes, self._old)
