"""Where what is live comes from: a release store or, without one, a folder of documents."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from headrace.pipeline import Catalog, Quarantined, Reload
from headrace.releases import Released


class Source(Protocol):
    """What is live, and what is wrong with it. Methods block: call them on threads."""

    @property
    def first(self) -> Reload:
        """What the first look found."""
        ...

    @property
    def released(self) -> Mapping[str, Released]:
        """What should serve, by pipeline. What did not change is the same object as before."""
        ...

    @property
    def quarantined(self) -> Mapping[str, Quarantined]: ...

    @property
    def unusable(self) -> frozenset[str]:
        """Names of pipelines of which nothing can serve."""
        ...

    def reload(self) -> Reload:
        """Looks for changes."""
        ...

    def wait(self, seen: str, timeout_s: float) -> str:
        """Returns as soon as something changed since the state `seen`, or after the time. Raises OSError."""
        ...

    def close(self) -> None:
        """Ends a `wait` in progress."""
        ...


class FolderSource:
    """The documents of a folder: the newest revision of each that is good serves. Implements `Source`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._closed = threading.Event()
        self._released: dict[str, Released] = {}
        self.first = catalog.first

    @property
    def released(self) -> Mapping[str, Released]:
        found = self._catalog.pipelines
        before = self._released
        self._released = {
            name: old if (old := before.get(name)) and old.live is pipeline else Released.of(pipeline)
            for name, pipeline in found.items()
        }
        return self._released

    @property
    def quarantined(self) -> Mapping[str, Quarantined]:
        return self._catalog.quarantined

    @property
    def unusable(self) -> frozenset[str]:
        return self._catalog.unusable

    def reload(self) -> Reload:
        return self._catalog.reload()

    def wait(self, seen: str, timeout_s: float) -> str:
        self._closed.wait(timeout_s)
        return seen

    def close(self) -> None:
        self._closed.set()
