"""How encryption fails. No text holds keys or what was sealed."""

from __future__ import annotations

import errno


class KeysAwayError(OSError):
    """The key management can't be reached now; the same call may work later. To whoever writes, it is like a disk that fails."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EIO, f"key management: {why}")

    def __str__(self) -> str:
        return str(self.strerror)


class LockedError(Exception):
    """Something is sealed with a key that is not here: another installation's, or one that was destroyed."""


class DamagedError(Exception):
    """The key is the right one, and what was sealed is not: cut off, altered, or of another name."""
