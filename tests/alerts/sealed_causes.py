"""Causes in the keys that files are sealed with."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from services.monitoring.events.storage.files import sealed_files
from tests.alerts.alarmed_system import PLACE, Alarmed
from tests.alerts.causes import Causes, moved
from tests.libs.slo.alert_world import until
from tests.sealed_home import status
from tests.system import headrace

CAUSES = Causes()

# A segment is closed after a minute.
_CLOSED_S = 240.0


def _closed() -> list[Path]:
    """Segments of events that are not written any more: one that is open now is sealed anew when it is closed."""
    return sorted(PLACE.events.glob("segments/*.parquet"))


def _needed(path: Path) -> frozenset[str]:
    return sealed_files(PLACE.events).look(path).versions


@CAUSES.add(
    {"HeadraceEncryptionKeysAway": {"instance": "router"}},
    "the file of keys moved away",
    "it is put back; nothing is restarted",
)
def keys_away(alarmed: Alarmed) -> Iterator[None]:
    """The file of keys is moved away; what runs goes on with the data keys that it has."""
    with moved(alarmed.keys, "hidden"):
        yield


@CAUSES.add(
    {"HeadraceEncryptionLocked": {"store": "events"}},
    "`headrace encryption rotate`, then a copy of the file of keys from before put in its place",
    "the newest file of keys is put back; nothing is restarted",
)
def keys_of_before(alarmed: Alarmed) -> Iterator[None]:
    """The keys are rotated, events are sealed with the new version, and a copy from before is put back."""
    newest, before = (alarmed.keys.with_name(name) for name in ("newest", "before"))
    shutil.copy2(alarmed.keys, before)
    headrace("encryption", "rotate")
    current = status()["current"]
    until("a closed segment needs it", lambda: any(current in _needed(path) for path in _closed()), _CLOSED_S)
    shutil.copy2(alarmed.keys, newest)
    before.replace(alarmed.keys)
    try:
        yield
    finally:
        newest.replace(alarmed.keys)
