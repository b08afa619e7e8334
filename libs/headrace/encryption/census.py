"""How many files are sealed with which version of the key, are plain, or can't be opened here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from headrace.encryption.stores import Seen, Store

_Stamp = tuple[int, int, int]


@dataclass(slots=True)
class Tally:
    """Files of a store. `by_version`: those that need a version (one that was written before and after a rotation needs two).

    `plain`: with something that is not sealed. `locked`: that need a version that is not here. `damaged`: with a header that
    can't be read. `unreadable`: that the operating system does not let us read.
    """

    by_version: Counter[str] = field(default_factory=Counter)
    files: int = 0
    plain: int = 0
    locked: int = 0
    damaged: int = 0
    unreadable: int = 0

    @property
    def sealed(self) -> int:
        """Files that can be opened here and hold nothing plain."""
        return self.files - self.plain - self.locked - self.damaged - self.unreadable

    def take(self, seen: Seen | None, known: Collection[str]) -> None:
        """One file; None: it can't be read. `known`: versions that are here."""
        self.files += 1
        if seen is None:
            self.unreadable += 1
            return
        self.by_version.update(seen.versions)
        # Each file is one thing, the worst.
        if seen.damaged:
            self.damaged += 1
        elif not seen.versions <= set(known):
            self.locked += 1
        elif seen.plain:
            self.plain += 1


class Census:
    """Counts files. What did not change since it was last looked at is not read again. For one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[_Stamp, Seen]] = {}

    def tally(
        self,
        store: Store,
        known: Collection[str],
        told: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005 - nobody looks
    ) -> Tally:
        """`known`: versions of the key that are here. `told`: files done, files in all. Raises OSError."""
        found, files = Tally(), store.files()
        for number, path in enumerate(files, 1):
            try:
                found.take(self._look(store, path), known)
            except FileNotFoundError:
                continue
            except OSError:
                found.take(None, known)
            told(number, len(files))
        # Of files that are gone nothing is kept.
        self._seen = {path: seen for path, seen in self._seen.items() if path.exists()}
        return found

    def counted(self, store: Store, versions: Callable[[], Collection[str]]) -> Tally:
        """As `tally`, of keys that may be rotated meanwhile. Raises KeysAwayError, OSError."""
        known = set(versions())
        while True:
            found = self.tally(store, known)
            # What is sealed since a rotation needs a version that was not there when they were asked for.
            if not found.locked or (now := set(versions())) == known:
                return found
            known = now

    def _look(self, store: Store, path: Path) -> Seen:
        about = path.stat()
        stamp = about.st_ino, about.st_size, about.st_mtime_ns
        known = self._seen.get(path)
        if known is None or known[0] != stamp:
            known = self._seen[path] = stamp, store.look(path)
        return known[1]
