"""The database of this process, opened as soon as that can be done."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

from headrace.catalog.access import Change
from headrace.catalog.errors import RecordsUnavailableError, Unavailable
from headrace.catalog.records import CatalogRecords
from headrace.hop.config import ConfigError
from headrace.storage import address as addresses

# Beside the file of a database that `headrace restore` has put there; it says of which backup.
RESTORED = "restored"


def _begin_if_restored(address: str, records: CatalogRecords) -> None:
    """A restored database begins a new epoch, so that what went further before is known to be no descendant. Raises
    RecordsUnavailableError."""
    mark = Path(address).with_name(RESTORED)
    if "://" in address or not mark.exists():
        return
    content = mark.read_bytes()
    identity = hashlib.sha256(content).hexdigest()[:32]
    reason = content.decode(errors="replace")[:1000]
    records.begin_epoch(Change("headrace restore", "records.restore", "records", (), reason, id=identity))
    mark.unlink()


class ControlDatabase:
    """Threads may share it. `initialise`: whether an empty one is set up."""

    def __init__(self, address: str, *, initialise: bool) -> None:
        """Raises ConfigError: the address is none."""
        try:
            addresses.parse(address)
        except ValueError as error:
            raise ConfigError(f"database: {error}") from None
        self._address = address
        self._initialise = initialise
        self._lock = threading.Lock()
        self._closed = False
        self._records: CatalogRecords | None = None
        self._problem = RecordsUnavailableError(
            Unavailable.UNREACHABLE, "the database is being opened; try again in a moment"
        )

    def open(self) -> CatalogRecords:
        """Opens it if that has not been done. Blocks. Raises RecordsUnavailableError."""
        with self._lock:
            if self._closed:
                raise self._problem
            if self._records is None:
                try:
                    found = CatalogRecords.open(self._address, initialise=self._initialise)
                    _begin_if_restored(self._address, found)
                    self._records = found
                except RecordsUnavailableError as error:
                    self._problem = error
                    raise
            return self._records

    def records(self) -> CatalogRecords:
        """The records. Raises RecordsUnavailableError: they are not open yet."""
        found = self._records
        if found is None:
            raise self._problem
        return found

    def close(self) -> None:
        """Lets another process have the database. Blocks."""
        with self._lock:
            self._closed = True
            if self._records is not None:
                self._records.close()
