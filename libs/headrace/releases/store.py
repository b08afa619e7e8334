"""What a store of releases does. `of_records.py` keeps them among the records of control; a door asks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from headrace.releases.document import Release

# Older releases and the pipeline documents that only they name are removed.
KEPT = 10


# The problem of a pipeline that was removed.
REMOVED = "it was taken out of service (headrace release remove)"


@dataclass(frozen=True, slots=True)
class Freeze:
    """Who stopped all automation, why and when."""

    author: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Broken:
    """A release that can't be used. `number` 0: the store has none that can be read. `problem` names the key."""

    pipeline: str
    number: int
    problem: str


class ReleaseStore(Protocol):
    """Releases and the pipeline documents that they name. Methods block: call them on threads. They raise OSError if it can't be
    reached."""

    def pipelines(self) -> list[str]:
        """Names of the pipelines that have a release."""
        ...

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        """The newest release that can be read, and what is wrong with newer ones."""
        ...

    def document(self, pipeline: str, revision: str) -> str | None:
        """The text of a pipeline document; None: it is not stored."""
        ...

    def history(self, pipeline: str) -> list[Release]:
        """The releases that are kept and can be read, newest first."""
        ...

    def commit(self, release: Release, documents: Mapping[str, str] = MappingProxyType({})) -> None:
        """Makes it the current release if its `parent` is the current one (0: there is none yet). `documents`: revision → text,
        of those that it names and that may not be stored yet.

        Raises StaleError if it is not; ReleaseError if a revision that it names has no document.
        """
        ...

    def remove(self, pipeline: str) -> None:
        """Takes a pipeline out of service, with its history. The numbers of its releases go on if it comes back."""
        ...

    def freeze(self, freeze: Freeze | None) -> None:
        """Stops all automation, or lets it go on."""
        ...

    def frozen(self) -> Freeze | None:
        """Who stopped all automation; None: nobody."""
        ...

    def close(self) -> None:
        """Ends connections."""
        ...
