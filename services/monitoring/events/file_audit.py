"""Tells the audit the hash of each file of events when it is closed, and that it went."""

from __future__ import annotations

import hashlib

from headrace.catalog.access import Change, Records
from services.monitoring.events.manifest.manifest import Manifest, State

# So many at once: each is a change of control's.
_MOST = 100
STORED, REMOVED = "events.store", "events.remove"


def tell_audit(records: Records, manifest: Manifest) -> None:
    """Tells it of files that it does not know yet. A file that went before it was told of is never told. Blocks.

    Raises RecordsUnavailableError, StorageError: the next time goes on.
    """
    for path, state, digest in manifest.unaudited(_MOST):
        action = STORED if state is State.LIVE else REMOVED
        # Once, however often it is sent.
        identity = hashlib.sha256(f"{action} {path}".encode()).hexdigest()[:32]
        records.change(Change("monitoring", action, path, details={"sha256": digest}, id=identity))
        manifest.audited(path, state)
