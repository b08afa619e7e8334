"""Opens the store of releases that a setting names."""

from __future__ import annotations

from pathlib import Path

from headrace.hop.config import ConfigError
from headrace.releases.files import FileReleases
from headrace.releases.store import ReleaseStore


def open_releases(where: str) -> ReleaseStore:
    """The store in a folder. Raises ConfigError for a URL of an unknown kind."""
    if "://" in where:
        raise ConfigError(
            f"releases: {where.partition('://')[0]}:// is no kind of release store; give a folder"
        )
    return FileReleases(Path(where))
