"""The console's security events, in the log that the ingress writes: refused keys, forged cookies and forms, sign-ins.

The ingress rotates the file; both append under the same lock, whole lines, made durable (libs/headrace/state/json_lines.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from headrace.hop.resilience.limiter import TokenBucket
from headrace.state import json_lines, security
from services.monitoring.ports import Log

# Lines a second in the service's own log.
_LOGGED_PER_S = 10.0


class SecurityEvents:
    """Takes events at once and writes them at `flush`. `path` None: they are only in the service's log. `wall`: seconds since
    1970."""

    def __init__(self, path: Path | None, wall: Callable[[], float], log: Log) -> None:
        self._path = path
        self._wall = wall
        self._log = log
        self._logged = TokenBucket(_LOGGED_PER_S, _LOGGED_PER_S, wall())
        self._events = security.SecurityEvents(wall, {"method": "console"})
        self._failing = False

    def add(self, kind: str, client: str, details: Mapping[str, str]) -> None:
        """Records one event. `details` hold no secret."""
        if self._path is not None:
            self._events.add(kind, client, {"method": "console", **details})
        if self._logged.take(self._wall()) == 0.0:
            shown = {name: value[:256] for name, value in details.items()}
            self._log.warning("security event", **{**shown, "kind": kind, "client": client})

    def flush(self, *, closing: bool = False) -> None:
        """Writes what waits. Blocks; raises nothing: what can't be written waits on. `closing`: nothing comes after it."""
        if self._path is None or not (lines := self._events.take(closing=closing)):
            return
        try:
            json_lines.append_rotated(self._path, b"".join(lines))
        except OSError as error:
            self._events.put_back(lines)
            if not self._failing:
                self._log.error("security events can't be written; they wait", error=str(error))
            self._failing = True
            return
        self._failing = False
