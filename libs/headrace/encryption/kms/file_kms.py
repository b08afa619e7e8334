"""Key-encryption keys (AES-256-GCM) in a file that its owner alone may read. Whoever has the file and the data reads the data: it
protects data that leaves the machine without it (object storage, copies), and a disk only if the file lies on another one."""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headrace.encryption.errors import KeysAwayError, KeysProblem, LockedError
from headrace.encryption.kms import (
    DATA_KEY_BYTES,
    NONCE_BYTES,
    Wrapped,
    check_retired,
    missing,
    number_of,
    open_to_others,
    unfit,
)
from headrace.state import atomic

FORMAT = 1
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Keys:
    """The file's content. `made`: when, by number, for people."""

    name: str
    current: int
    keys: dict[int, bytes]
    made: dict[int, str]

    def encode(self) -> bytes:
        versions = {
            str(n): {"made": self.made[n], "key": base64.b64encode(key).decode()}
            for n, key in self.keys.items()
        }
        about = {"format": FORMAT, "name": self.name, "current": self.current, "versions": versions}
        return json.dumps(about, indent=1).encode() + b"\n"


class FileKms:
    """Reads the file again when it has changed. A file that can't be used is KeysAwayError: it may be put right.

    `name`: of the keys that belong here; None: any. A file of others is refused: what they seal could not be opened once the
    right ones are back.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._path = path
        self._name = name
        self._lock = Lock()
        self._known: tuple[tuple[int, int, int], _Keys] | None = None

    def current(self) -> str:
        keys = self._keys()
        return f"{keys.name}/{keys.current}"

    def versions(self) -> list[str]:
        keys = self._keys()
        return [f"{keys.name}/{number}" for number in sorted(keys.keys)]

    def wrap(self, key: bytes) -> Wrapped:
        keys = self._keys()
        version, nonce = f"{keys.name}/{keys.current}", os.urandom(NONCE_BYTES)
        sealed = AESGCM(keys.keys[keys.current]).encrypt(nonce, key, version.encode())
        return Wrapped(version, nonce + sealed)

    def unwrap(self, wrapped: Wrapped) -> bytes:
        keys = self._keys()
        named = {f"{keys.name}/{number}": key for number, key in keys.keys.items()}
        key = named.get(wrapped.version)
        if key is None:
            raise LockedError(missing(wrapped.version, list(named)))
        nonce, sealed = wrapped.content[:NONCE_BYTES], wrapped.content[NONCE_BYTES:]
        try:
            return AESGCM(key).decrypt(nonce, sealed, wrapped.version.encode())
        except (InvalidTag, ValueError):
            raise LockedError(unfit(wrapped.version)) from None

    def rotate(self) -> str:
        with _locked(self._path):
            keys = self._keys()
            number = max(keys.keys) + 1
            more = {**keys.keys, number: secrets.token_bytes(DATA_KEY_BYTES)}
            self._write(_Keys(keys.name, number, more, {**keys.made, number: _now()}))
        return self.current()

    def retire(self, version: str) -> None:
        with _locked(self._path):
            keys = self._keys()
            check_retired(version, self.versions())
            number = number_of(version, keys.name)
            left = {n: key for n, key in keys.keys.items() if n != number}
            self._write(_Keys(keys.name, keys.current, left, {n: keys.made[n] for n in left}))

    def made(self, version: str) -> str:
        """When a version was made, as ISO 8601; empty: the file does not say. Raises KeysAwayError."""
        keys = self._keys()
        return keys.made.get(number_of(version, keys.name), "")

    def _write(self, keys: _Keys) -> None:
        try:
            atomic.write(self._path, keys.encode(), mode=0o600)
        except OSError as error:
            raise _unusable(f"{self._path} can't be written ({error.strerror})", error) from error

    def _keys(self) -> _Keys:
        try:
            with self._path.open("rb") as file, self._lock:
                status = os.fstat(file.fileno())
                # Also of what was read before: rights change without the content.
                if open_to_others(status):
                    why = f"{self._path} may be read by others: chmod 600 {self._path}"
                    raise KeysAwayError(why, KeysProblem.OPEN_TO_OTHERS)
                seen = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self._known is not None and self._known[0] == seen:
                    return self._known[1]
                keys = _decoded(file.read(_MAX_BYTES), self._path)
                if self._name not in (None, keys.name):
                    why = f"{self._path} has other keys: {keys.name}, not {self._name}"
                    raise KeysAwayError(why, KeysProblem.OTHER_KEYS)
                self._known = seen, keys
                return keys
        except KeysAwayError:
            raise
        except OSError as error:
            raise _unusable(f"{self._path} can't be read ({error.strerror})", error) from error


def make(path: Path, name: str = "headrace") -> None:
    """Makes the file with a first version, if it is not there. Raises OSError."""
    with _locked(path):
        if not path.exists():
            keys = _Keys(name, 1, {1: secrets.token_bytes(DATA_KEY_BYTES)}, {1: _now()})
            atomic.write(path, keys.encode(), mode=0o600)


def _decoded(content: bytes, path: Path) -> _Keys:
    try:
        about = json.loads(content)
        if about["format"] != FORMAT:
            why = f"{path} has format {about['format']!r}; this headrace knows format {FORMAT}"
            raise KeysAwayError(why, KeysProblem.DAMAGED)
        versions = {int(number): entry for number, entry in about["versions"].items()}
        keys = {n: base64.b64decode(entry["key"], validate=True) for n, entry in versions.items()}
        made = {n: str(entry.get("made", "")) for n, entry in versions.items()}
        found = _Keys(str(about["name"]), int(about["current"]), keys, made)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error):
        why = f"{path} is no file of keys; put the right one back from a backup"
        raise KeysAwayError(why, KeysProblem.DAMAGED) from None
    if found.current not in keys or any(len(key) != DATA_KEY_BYTES for key in keys.values()):
        why = f"{path}: its current key is missing, or a key has not {DATA_KEY_BYTES} bytes"
        raise KeysAwayError(why, KeysProblem.DAMAGED)
    return found


def _unusable(why: str, error: OSError) -> KeysAwayError:
    missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return KeysAwayError(why, KeysProblem.MISSING if missing else KeysProblem.UNREADABLE)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two who rotate at once make two versions, and none is lost."""
    try:
        descriptor = os.open(
            path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise _unusable(f"{path.parent} can't be written ({error.strerror})", error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
