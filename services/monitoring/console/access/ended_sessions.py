"""Which sessions were ended by signing out, in a file of the home."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from headrace.state import atomic


class EndedSessions:
    """`wall`: seconds since 1970. While the file can't be read, no session goes on that began before."""

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self._path = path
        self._wall = wall
        # When each would have ended by itself, by its nonce.
        self._until: dict[str, float] = {}
        self._unknown_until = 0.0

    def has(self, nonce: str, began: float) -> bool:
        """Whether a session is over that began then."""
        return nonce in self._until or began <= self._unknown_until

    def add(self, nonce: str, until: float) -> None:
        """Ends a session in this process; `save` makes it last."""
        self._until[nonce] = until

    def load(self) -> None:
        """Takes up what another process has saved. Blocks; raises nothing."""
        try:
            found = json.loads(self._path.read_bytes())
            self._until.update({nonce: float(until) for nonce, until in found["ended"].items()})
            self._unknown_until = max(self._unknown_until, float(found["unknown_until"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._unknown_until = self._unknown_until or self._wall()

    def save(self) -> None:
        """Blocks. Raises OSError."""
        self.load()
        ended = {nonce: until for nonce, until in self._until.items() if until > self._wall()}
        content = {"unknown_until": self._unknown_until, "ended": ended}
        atomic.write(self._path, json.dumps(content).encode(), mode=0o600)
