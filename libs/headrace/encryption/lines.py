"""Files of lines, each an envelope as base64: for files that several processes append to and that may be cut anywhere.

Plain lines may stand between sealed ones, as a file goes on when encryption is switched on. No plain line of ours begins like a
sealed one: they are JSON objects.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path

from headrace.encryption.envelope import MAGIC, Sealer, read_header
from headrace.encryption.errors import DamagedError, LockedError
from headrace.encryption.stores import Seen
from headrace.state import atomic

# The magic word's first six bytes as base64; the other characters depend on what follows.
_BEGIN = base64.b64encode(MAGIC[:6])


def is_sealed_line(line: bytes) -> bool:
    """Whether it is the beginning of a sealed line."""
    return line.startswith(_BEGIN)


def seal_line(sealer: Sealer, content: bytes, identity: str) -> bytes:
    """One line, with its newline at the end. `content` may hold newlines itself. Raises KeysAwayError."""
    return base64.b64encode(sealer.seal(content, identity)) + b"\n"


def open_line(sealer: Sealer | None, line: bytes, identity: str) -> bytes:
    """What a sealed line holds. `sealer` None: no keys are set here. Raises KeysAwayError, LockedError, DamagedError."""
    if sealer is None:
        version = read_header(_decoded(line))[0].wrapped.version
        raise LockedError(f"it is sealed with key {version}, and no keys are set here (setting encryption)")
    try:
        content = _decoded(line)
    except DamagedError:
        sealer.keys.meter.unopened("damaged")
        raise
    return sealer.open(content, identity)


def look(path: Path) -> Seen:
    """Which versions of the key a file of lines needs, without a key. Raises OSError."""
    versions, plain, damaged = set(), False, False
    for line in _lines(path):
        if not is_sealed_line(line):
            plain = True
            continue
        # It is being appended now, or was when a process was killed: it is not complete, which is no damage.
        if not line.endswith(b"\n"):
            continue
        try:
            versions.add(read_header(_decoded(line))[0].wrapped.version)
        except DamagedError:
            damaged = True
    return Seen(frozenset(versions), plain, damaged)


def rewrap(path: Path, sealer: Sealer) -> bool:
    """Gives each sealed line a header of the current version, and replaces the file in one step. Damaged lines stay as they are.

    Whoever writes the file must be kept from it meanwhile. Returns whether there was anything to do. Raises KeysAwayError,
    LockedError, OSError; then the file is as it was.
    """
    found, changed = [], False
    for line in _lines(path):
        fresh = line
        if is_sealed_line(line) and line.endswith(b"\n"):
            try:
                again = sealer.rewrapped(_decoded(line))
            except DamagedError:
                again = None
            if again is not None:
                fresh, changed = base64.b64encode(again) + b"\n", True
        found.append(fresh)
    if changed:
        atomic.write(path, b"".join(found), mode=path.stat().st_mode & 0o777)
    return changed


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _decoded(line: bytes) -> bytes:
    try:
        return base64.b64decode(line.rstrip(b"\n"), validate=True)
    except (binascii.Error, ValueError):
        raise DamagedError("a sealed line was cut off or altered") from None
