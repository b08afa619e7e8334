"""What a key management does: it holds versions of one key-encryption key and wraps data keys with them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Protocol

DATA_KEY_BYTES = 32
NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A data key that only `version` of the key-encryption key opens, such as `headrace/2`."""

    version: str
    content: bytes


class KeyManagement(Protocol):
    """Methods block, may be called by several threads, and raise KeysAwayError."""

    def current(self) -> str:
        """The version that new data keys are wrapped with."""
        ...

    def versions(self) -> list[str]:
        """All versions, the oldest first."""
        ...

    def wrap(self, key: bytes) -> Wrapped:
        """Wraps a data key with the current version."""
        ...

    def unwrap(self, wrapped: Wrapped) -> bytes:
        """The data key. Raises LockedError: this version is not here, or is another key of the same name."""
        ...

    def rotate(self) -> str:
        """Makes a new version, which is the current one from now on; the others still unwrap. Returns its name."""
        ...

    def retire(self, version: str) -> None:
        """Destroys a version: what is wrapped by it opens never again. Raises ValueError: it is the current one, or not here."""
        ...


def check_retired(version: str, known: list[str]) -> None:
    """Raises ValueError: of the `known` versions, the oldest first, it is the last or none."""
    if version not in known:
        raise ValueError(f"there is no key {version}; only {', '.join(known) or 'none'}")
    if version == known[-1]:
        raise ValueError(f"key {version} is the current one; rotate first")


def number_of(version: str, name: str) -> int:
    """Its number; 0: it is no version of the key `name`."""
    head, slash, number = version.rpartition("/")
    return int(number) if slash and head == name and number.isascii() and number.isdigit() else 0


def missing(version: str, known: list[str]) -> str:
    """What to say of a version that is not here."""
    return f"it is sealed with key {version}, and only {', '.join(known) or 'no key'} is here"


def unfit(version: str) -> str:
    """What to say if a version does not open what claims to be wrapped by it."""
    return f"key {version} does not open it: its header is damaged, or another key has this name here"


def open_to_others(status: os.stat_result) -> bool:
    """Whether a file with keys or a PIN may be read by more than us. Another's file, such as one that is mounted from a Secret,
    may be readable by our group."""
    closed = 0o077 if status.st_uid == os.geteuid() else 0o037
    return bool(stat.S_IMODE(status.st_mode) & closed)
