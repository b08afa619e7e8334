"""Opens closed segments that are sealed."""

from __future__ import annotations

import pyarrow as pa

from headrace.encryption import DamagedError, LockedError, Sealer
from headrace.encryption.envelope import read_header
from services.monitoring.events.storage.segments import UnreadableError, identity

# Longer than the header of any envelope.
BEGINNING_BYTES = 1 << 17


def check_key(beginning: bytes | memoryview, sealer: Sealer | None) -> None:
    """Whether what begins so can be opened here, before all of it is read. `sealer` None: no keys are set. Raises
    UnreadableError, LockedError, KeysAwayError."""
    if sealer is None:
        raise _no_keys()
    try:
        sealer.key(read_header(beginning)[0])
    except DamagedError as error:
        raise UnreadableError(str(error)) from error


def unsealed(content: bytes | memoryview, name: str, sealer: Sealer | None) -> pa.NativeFile:
    """The Parquet file that is in a segment. Raises UnreadableError, LockedError, KeysAwayError."""
    if sealer is None:
        raise _no_keys()
    try:
        return pa.BufferReader(sealer.open(content, identity(name)))
    except DamagedError as error:
        raise UnreadableError(str(error)) from error


def _no_keys() -> LockedError:
    return LockedError("it is sealed, and no keys are set here (`encryption`)")
