"""Lease and ladder at control, and evidence in files.

Evidence that is lost costs time, never safety: the rollout stays at its weight until there is new evidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.catalog.access import LeaseToken, Records
from headrace.catalog.remote import RemoteRecords
from headrace.releases.ladder import LEASE, Answer, Report, answer_of, report_message
from headrace.state import atomic, plain_files

_MAX_BYTES = 8 << 20
# Long enough for a slow round, short enough that a rollout is not long without an analyser.
LEASE_S = 5.0


class ControlLease:
    """A lease of control's, by its database's clock. Of what its holder says after it has ended, control makes nothing."""

    def __init__(self, records: Records, holder: str, lease_s: float = LEASE_S) -> None:
        self._records = records
        self._holder = holder
        self._lease_s = lease_s
        self.token = ""

    def hold(self) -> bool:
        """Takes the lease or prolongs it; then `token` proves that it is held. Blocks. Raises OSError: it can't be known.

        A lease that has ended is not taken again at once: its holder must first forget what it knew."""
        self.token = self._records.take_lease(LEASE, self._holder, self._lease_s, self.token)
        return bool(self.token)

    def release(self) -> None:
        """Gives it back, if it is held. Blocks. Raises OSError."""
        held, self.token = self.token, ""
        if held:
            self._records.give_back(LeaseToken(LEASE, held))


class ControlLadder:
    """That of control."""

    def __init__(self, records: RemoteRecords) -> None:
        self._records = records

    def report(self, report: Report) -> Answer:
        """See ports.Ladder."""
        return answer_of(self._records.report_verdict(report_message(report)))


class FileEvidence:
    """PIPELINE.json in `folder`: evidence for the next analyser. Methods block and raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, pipeline: str) -> Mapping[str, Any] | None:
        """What was saved last; None: nothing, or nothing that can be read."""
        try:
            values = json.loads(plain_files.read(self._path(pipeline), _MAX_BYTES))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None

    def save(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """Replaces what was saved."""
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic.write(self._path(pipeline), json.dumps(values, allow_nan=False).encode())

    def _path(self, pipeline: str) -> Path:
        return self._folder / f"{pipeline}.json"
