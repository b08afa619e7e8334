"""The access log records which models were loaded, refused and unloaded. It is a journal of the audit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from headrace.state import json_lines

Event = Literal["loaded", "refused", "unloaded"]
_NAME = 128
_TEXT = 2000


class AccessLog:
    """Appends to the file `path`. `who`: the user or service that acts. Threads and processes of one machine may share it."""

    def __init__(
        self, path: Path, who: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path
        self._who = who
        self._clock = clock

    def record(self, event: Event, model: str, version: str, **about: str) -> None:
        """Appends a line; it is on the disk once this returns. Raises OSError."""
        entry = {
            "at": self._clock().isoformat(timespec="milliseconds"),
            "event": event,
            "model": model[:_NAME],
            "version": version[:_NAME],
            "who": self._who,
            # Shortened: a reason may quote text of an untrusted file.
            **{k: v[:_TEXT] for k, v in about.items() if v},
        }
        json_lines.append_entry(self.path, entry)
