"""Who may read the audit, and the journal in which each reading, export and erasure is written before it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from headrace.state import json_lines

# The name of this journal.
READINGS = "readings"
Act = Literal["read", "verified", "exported", "erased", "refused"]
# The scope of a key that may read (access/specs.py).
SCOPE = "operate"
_TEXT = 2000


class AccessError(Exception):
    """The caller may not, or what it does can't be recorded; the text says which."""


class Access:
    """Appends to the journal `path`. `clock`: the time in UTC."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self._clock = clock

    def allow(self, act: Act, who: str, scopes: Iterable[str], **about: str) -> None:
        """Records that `who` does it. Raises AccessError: it may not (that is recorded too), or it can't be recorded."""
        if SCOPE not in set(scopes):
            self.record("refused", who, what=act, **about)
            raise AccessError(f"{who} may not read the audit; that takes a key with the scope {SCOPE!r}")
        self.record(act, who, **about)

    def record(self, act: Act, who: str, **about: str) -> None:
        """Records it; it is on the disk once this returns. Raises AccessError: it can't be."""
        self._append(act, who, {key: value[:_TEXT] for key, value in about.items() if value})

    def record_erased(self, who: str, journal: str, lines: Sequence[str], reason: str) -> None:
        """Records that lines are erased, by their SHA-256. Raises AccessError."""
        self._append("erased", who, {"journal": journal, "lines": list(lines), "reason": reason[:_TEXT]})

    def _append(self, act: Act, who: str, about: Mapping[str, object]) -> None:
        at = self._clock().isoformat(timespec="milliseconds")
        try:
            json_lines.append_entry(self.path, {"at": at, "event": act, "who": who[:_TEXT], **about})
        except OSError as error:
            raise AccessError(
                f"{self.path} can't be written ({error.strerror}); mend disk or rights: what can't be recorded is not done"
            ) from error
