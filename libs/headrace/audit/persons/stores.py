"""What of the audit may be sealed, for the commands that tell of keys and rewrap (encryption/stores.py)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from headrace.audit.persons.payloads import Payloads
from headrace.encryption import Sealer, Seen
from headrace.encryption import lines as sealing


class PersonsStore:
    """The segments of lines that tell of persons."""

    name = "audit persons"

    def __init__(self, payloads: Payloads) -> None:
        self._payloads = payloads

    def files(self) -> Sequence[Path]:
        return [self._payloads.path(segment) for segment in self._payloads.segments()]

    def look(self, path: Path) -> Seen:
        return self._payloads.look(path.stem)

    def rewrap(self, path: Path, sealer: Sealer) -> bool:
        return self._payloads.rewrap(path.stem, sealer)


class SecurityStore:
    """The door's security events and the older files of them. `path`: of the newest; its writers wait for `lock`."""

    name = "audit security events"

    def __init__(self, path: Path, lock: Path) -> None:
        self._path = path
        self._lock = lock

    def files(self) -> Sequence[Path]:
        older = sorted(p for p in self._path.parent.glob(f"{self._path.name}.*") if p.suffix[1:].isdecimal())
        return [path for path in (*older, self._path) if path.exists()]

    def look(self, path: Path) -> Seen:
        return sealing.look(path)

    def rewrap(self, path: Path, sealer: Sealer) -> bool:
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # A writer waits for two seconds, then it tries again later: nothing is lost. A file takes less.
            fcntl.flock(lock, fcntl.LOCK_EX)
            return sealing.rewrap(path, sealer)
        finally:
            os.close(lock)
