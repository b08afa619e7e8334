"""The versions that releases name: they are loaded for as long as a release names them, and a while longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from headrace.resources.releases import ReleaseCatalog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# A router that has not seen the newest release yet still asks for what the one before names.
_GRACE_S = 30.0


class ReleasedVersions:
    """`catalog` None: there are no releases. `clock`: monotonic seconds."""

    def __init__(self, catalog: ReleaseCatalog | None, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        # (model, version) → pipelines whose release names it.
        self._named: dict[tuple[str, str], frozenset[str]] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._told: list[str] = []
        # Set when there is something new to look at.
        self.changed = asyncio.Event()
        self._count()

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

    @property
    def problems(self) -> list[str]:
        """Why releases can't be read or used; the last good ones count then."""
        if self._catalog is None:
            return []
        broken = (q.problem for q in self._catalog.quarantined.values())
        return [str(p) for p in (*self._catalog.troubles, *broken)]

    def tell(self, log: FilteringBoundLogger) -> None:
        """Logs once that releases can't be read, and once that they can be again."""
        problems, before = self.problems, self._told
        self._told = problems
        if problems and problems != before:
            log.error("releases can't be read; the last good ones stay loaded", problems=problems)
        elif before and not problems:
            log.info("the releases can be read again")

    async def wait(self, seconds: float) -> None:
        """Until something has changed, at the longest so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.changed.wait()
        self.changed.clear()

    def look(self) -> dict[str, list[str]]:
        """Reads the releases now, and returns `versions`. Blocks."""
        if self._catalog is not None:
            self._catalog.reload()
            self._count()
        return self.versions

    def _count(self) -> None:
        named: dict[tuple[str, str], frozenset[str]] = {}
        for pipeline, found in (self._catalog.released if self._catalog else {}).items():
            for arm in found.release.arms.values():
                for pair in arm.models.items():
                    named[pair] = named.get(pair, frozenset()) | {pipeline}
        now = self._clock()
        self._until |= dict.fromkeys(self._named.keys() - named.keys(), now + _GRACE_S)
        self._until = {pair: end for pair, end in self._until.items() if end > now and pair not in named}
        self._named = named
