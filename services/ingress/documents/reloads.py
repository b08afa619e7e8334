"""What is live, taken over when it changes while the ingress serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeAlias

from prometheus_client import CollectorRegistry, Gauge

from headrace.hop.errors import Fault
from headrace.pipeline import Pipeline
from headrace.resources.releases import Quarantined, ReleaseCatalog, Reload
from services.ingress.documents.catalog import Catalog

_MAX_QUARANTINED = 100


class DocumentMetrics:
    """What the door could not read. Labels hold names of pipelines."""

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


Serving: TypeAlias = Callable[[], Awaitable[Mapping[str, str]]]
"""Asks the router which revision of each pipeline it serves. Raises Fault."""


class DocumentReloads:
    """The documents of the live arms, read again when they change. A broken release stops no pipeline but its own, and that only
    if no good one is known. A changed document is taken over when the router serves it (`serving`), which may wait for models.
    """

    def __init__(
        self,
        documents: ReleaseCatalog,
        catalog: Catalog,
        log: Any,
        metrics: DocumentMetrics,
        serving: Serving,
    ) -> None:
        self._documents = documents
        self._catalog = catalog
        self._log = log
        self._metrics = metrics
        self._serving = serving
        # Whether it was ever known what is live.
        self.known = not documents.troubles
        self._used: Mapping[str, Pipeline] = dict(documents.pipelines)
        self._tell(documents.first)

    async def check(self) -> None:
        """Looks once."""
        found = self._documents.reload()
        self.known |= not self._documents.troubles
        pipelines = self._documents.pipelines
        if found == Reload() and pipelines == self._used:
            return
        used = await self._usable(pipelines)
        changed = [
            n for n, p in used.items() if (old := self._used.get(n)) is None or old.revision != p.revision
        ]
        removed = [n for n in self._used if n not in used]
        self._used = used
        self._catalog.replace(used, self._documents.unusable)
        if changed or removed:
            self._log.info("pipelines reloaded", changed=changed, removed=removed)
        for name in found.cleared:
            self._log.info("pipeline out of quarantine", pipeline=name)
        self._tell(found)

    async def _usable(self, pipelines: Mapping[str, Pipeline]) -> dict[str, Pipeline]:
        """The documents to use now: of those that changed, the ones that the router serves already."""
        used = dict(pipelines)
        olds = {
            n: old for n, p in pipelines.items() if (old := self._used.get(n)) and old.revision != p.revision
        }
        if olds:
            try:
                serving = await self._serving()
            except Fault:
                serving = {}
            used |= {n: old for n, old in olds.items() if serving.get(n) != pipelines[n].revision}
        return used

    def _tell(self, found: Reload) -> None:
        for problem in found.problems:
            self._log.error("pipeline document quarantined", problem=str(problem))
        self._metrics.quarantined(self._documents.quarantined.values())
