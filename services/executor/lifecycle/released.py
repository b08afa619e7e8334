"""The versions that releases name: they are loaded for as long as a release names them, and a while longer."""

from __future__ import annotations

from collections.abc import Callable

from headrace.releases import ReleaseStore

# A router that has not seen the newest release yet still asks for what the one before names.
_GRACE_S = 30.0


class ReleasedVersions:
    """`store` None: there are no releases. `clock`: monotonic seconds."""

    def __init__(self, store: ReleaseStore | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        # (model, version) → pipelines whose current release names it.
        self._named: dict[tuple[str, str], frozenset[str]] = {}
        self._until: dict[tuple[str, str], float] = {}

    @property
    def versions(self) -> dict[str, list[str]]:
        """Model → versions, as of the last look."""
        found: dict[str, list[str]] = {}
        for model, version in sorted({*self._named, *self._until}):
            found.setdefault(model, []).append(version)
        return found

    def by(self, model: str, version: str) -> list[str]:
        """The pipelines whose releases name the version, as of the last look."""
        return sorted(self._named.get((model, version), ()))

    def look(self) -> dict[str, list[str]]:
        """Reads the releases now, and returns `versions`. Blocks. If the store can't be reached, what was known stays.

        Raises OSError then.
        """
        if self._store is None:
            return {}
        named: dict[tuple[str, str], frozenset[str]] = {}
        for pipeline in self._store.pipelines():
            # Of a broken release, the one before serves; it is kept loaded as well.
            release, _ = self._store.current(pipeline)
            for arm in release.arms.values() if release else ():
                for pair in arm.models.items():
                    named[pair] = named.get(pair, frozenset()) | {pipeline}
        now = self._clock()
        self._until |= dict.fromkeys(self._named.keys() - named.keys(), now + _GRACE_S)
        self._until = {pair: end for pair, end in self._until.items() if end > now and pair not in named}
        self._named = named
        return self.versions

    def close(self) -> None:
        """Ends the connection to the store."""
        if self._store is not None:
            self._store.close()
