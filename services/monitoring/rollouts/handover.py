"""Lease at control, and evidence in files.

Evidence that is lost costs time, never safety: the rollout stays at its weight until there is new evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.catalog.access import LeaseToken, Records
from headrace.state import atomic, plain_files

_MAX_BYTES = 8 << 20
_NAME = "rollouts"
# Long enough for a slow round, short enough that a rollout is not long without an analyser.
LEASE_S = 5.0


class ControlLease:
    """A lease of control's, by its database's clock. What its holder commits after it has ended, control refuses."""

    def __init__(self, records: Records, holder: str, lease_s: float = LEASE_S) -> None:
        self._records = records
        self._holder = holder
        self._lease_s = lease_s
        self._token = ""

    @property
    def fence(self) -> LeaseToken | None:
        """What a change of the holder needs; None: it is not held."""
        return LeaseToken(_NAME, self._token) if self._token else None

    def hold(self) -> bool:
        """See ports.Lease. A lease that has ended is not taken again at once: its holder must first forget what it knew."""
        self._token = self._records.take_lease(_NAME, self._holder, self._lease_s, self._token)
        return bool(self._token)

    def release(self) -> None:
        """See ports.Lease."""
        if (held := self.fence) is not None:
            self._token = ""
            self._records.give_back(held)


class FileEvidence:
    """PIPELINE.json in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """See ports.EvidenceStore."""
        try:
            return parsed(plain_files.read(self._path(pipeline), _MAX_BYTES))
        except FileNotFoundError:
            return None

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """See ports.EvidenceStore."""
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self._path(pipeline), json.dumps(values, allow_nan=False).encode())

    def _path(self, pipeline: str) -> Path:
        return self._folder / f"{pipeline}.json"


def parsed(content: bytes) -> Mapping[str, Any] | None:
    """The saved values; None: they can't be read."""
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None
