"""How encryption fails. No text holds keys or what was sealed."""

from __future__ import annotations

import errno
from enum import StrEnum


class KeysProblem(StrEnum):
    """Why the keys can't be used, for programs; a label of a metric."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    OPEN_TO_OTHERS = "open_to_others"
    DAMAGED = "damaged"
    OTHER_KEYS = "other_keys"
    PIN_REFUSED = "pin_refused"
    TOKEN_AWAY = "token_away"  # noqa: S105 - no password: a name

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return _REMEDIES[self]


_REMEDIES = {
    KeysProblem.MISSING: "put the file of keys back from its copy, mode 600, or give the token back",
    KeysProblem.UNREADABLE: "let the user who runs headrace read it, or mend its disk",
    KeysProblem.OPEN_TO_OTHERS: "take the rights of others: chmod 600",
    KeysProblem.DAMAGED: "put the file of keys back from its copy, mode 600",
    KeysProblem.OTHER_KEYS: "put this home's own file of keys back from its copy, mode 600",
    KeysProblem.PIN_REFUSED: "write the right PIN into the file of the PIN; a token that is locked: by its maker's means",
    KeysProblem.TOKEN_AWAY: "mend the token by its maker's means; services log in again by themselves",
}


class KeysAwayError(OSError):
    """The key management can't be reached now; the same call may work later. To whoever writes, it is like a disk that fails."""

    def __init__(self, why: str, problem: KeysProblem) -> None:
        super().__init__(errno.EIO, f"key management: {why}")
        self.problem = problem

    def __str__(self) -> str:
        return str(self.strerror)


class LockedError(Exception):
    """Something is sealed with a key that is not here: another installation's, or one that was destroyed."""


class DamagedError(Exception):
    """The key is the right one, and what was sealed is not: cut off, altered, or of another name."""
