"""What of an installation may be sealed: each kind of file tells its files, what they need, and rewraps one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from headrace.encryption.envelope import Sealer


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a file without a key. `versions`: of the key-encryption key, those that it needs. `plain`: something in it
    is not sealed. `damaged`: a header in it can't be read."""

    versions: frozenset[str] = frozenset()
    plain: bool = False
    damaged: bool = False


class Store(Protocol):
    """The files of one kind, such as `audit persons`. Methods block."""

    @property
    def name(self) -> str: ...

    def files(self) -> Sequence[Path]:
        """The files that are there now. Raises OSError."""
        ...

    def look(self, path: Path) -> Seen:
        """What a file needs. Raises OSError; FileNotFoundError: it was removed meanwhile."""
        ...

    def rewrap(self, path: Path, sealer: Sealer) -> bool:
        """Replaces the headers in a file by those of the current version, in one step, while its writers wait or are not touched.

        Returns whether there was anything to do. Raises KeysAwayError, LockedError, OSError; then the file is as it was.
        """
        ...
