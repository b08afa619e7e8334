"""Opens the store of releases that a setting names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headrace.hop.config import ConfigError
from headrace.pipeline import Pipeline
from headrace.releases.catalog import ReleaseCatalog
from headrace.releases.files import FileReleases
from headrace.releases.store import ReleaseStore


class PlaceError(ValueError):
    """A setting names no store of releases."""


def open_store(place: str) -> ReleaseStore:
    """The store in a folder. Raises PlaceError for a URL of an unknown kind."""
    if "://" in place:
        raise PlaceError(f"releases are not kept at {place.partition('://')[0]}://; name a folder")
    return FileReleases(Path(place))


def open_catalog(
    place: str, kept: Path | None, accept: Callable[[Pipeline], None] = lambda _: None
) -> ReleaseCatalog:
    """What is live, as the store at `place` says, read once. `kept`: folder for copies. Blocks. Raises ConfigError."""
    try:
        store = open_store(place)
    except PlaceError as error:
        raise ConfigError(f"releases: {error}") from error
    return ReleaseCatalog(store, accept=accept, mirror=FileReleases(kept) if kept else None)
