"""Reloads of the tenants document and the pipelines' documents while the ingress serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.config import ConfigError
from headrace.pipeline import Catalog as Documents
from headrace.pipeline import Quarantined, Reload
from headrace.state.tenants import load, save
from services.ingress.documents.catalog import Catalog, Directory
from services.ingress.documents.watch import stamp_of
from services.ingress.ports import Log

# Names of folders, which anybody who may write there chooses.
_MAX_QUARANTINED = 100


class TenantReloads:
    """The tenants document, read again when the file changes. A broken file is logged; the last good one stays.

    `kept`: where a copy of the last good one outlives the process; `broken`: told 1 while the file is broken, 0 otherwise.
    """

    def __init__(self, path: Path, kept: Path | None, log: Log, broken: Callable[[float], None]) -> None:
        """Raises ConfigError if there is neither a good document nor a copy of one."""
        self._path = path
        self._kept = kept
        self._log = log
        self._broken = broken
        self._stamp = stamp_of(path)
        self._subscribers: tuple[Callable[[Directory], None], ...] = ()
        try:
            self.directory = self._load()
        except ConfigError as error:
            if kept is None or not kept.exists():
                raise
            self.directory = Directory.of(load(kept))
            self._refused(error)

    def subscribe(self, *subscribers: Callable[[Directory], None]) -> None:
        """Each is called with every new directory."""
        self._subscribers += subscribers

    async def check(self) -> None:
        """Looks once."""
        stamp = await asyncio.to_thread(stamp_of, self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.directory = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._refused(error)
            return
        for subscriber in self._subscribers:
            subscriber(self.directory)
        self._log.info("tenants reloaded", tenants=len(self.directory.tenants), keys=len(self.directory.keys))

    def _load(self) -> Directory:
        """What the file says, once it is good; a copy of it is kept then."""
        file = load(self._path)
        directory = Directory.of(file)
        self._broken(0.0)
        if self._kept is not None:
            try:
                self._kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                save(self._kept, file)
            except OSError as error:
                self._log.warning("the last good tenants are not kept", error=type(error).__name__)
        return directory

    def _refused(self, error: ConfigError) -> None:
        self._broken(1.0)
        self._log.error("tenants not loaded; the last good ones are in force", error=str(error))


class DocumentMetrics:
    """What the door could not read. Labels hold names of pipelines and, of those never good, of their folders."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._quarantined = Gauge(
            "headrace_ingress_quarantined_documents",
            "1 for a pipeline whose document is broken; `serves` is last_good or nothing.",
            ["pipeline", "serves"],
            registry=registry,
        )

    def quarantined(self, documents: Iterable[Quarantined]) -> None:
        """All whose documents are broken."""
        self._quarantined.clear()
        for entry in list(documents)[:_MAX_QUARANTINED]:
            self._quarantined.labels(entry.name, "last_good" if entry.serves else "nothing").set(1)


class DocumentReloads:
    """The pipeline documents, read again when they change. A broken one stops no pipeline but its own, and that only if
    no good revision of it is known."""

    def __init__(self, documents: Documents, catalog: Catalog, log: Log, metrics: DocumentMetrics) -> None:
        self._documents = documents
        self._catalog = catalog
        self._log = log
        self._metrics = metrics
        self._tell(documents.first)

    async def check(self) -> None:
        """Looks once."""
        found = await asyncio.to_thread(self._documents.reload)
        if found == Reload():
            return
        self._catalog.replace(self._documents.pipelines, self._documents.unusable)
        if found.changed or found.removed:
            self._log.info("pipelines reloaded", changed=list(found.changed), removed=list(found.removed))
        for name in found.cleared:
            self._log.info("pipeline out of quarantine", pipeline=name)
        self._tell(found)

    def _tell(self, found: Reload) -> None:
        for problem in found.problems:
            self._log.error("pipeline document quarantined", problem=str(problem))
        self._metrics.quarantined(self._documents.quarantined.values())
