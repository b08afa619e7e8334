"""Releases among the records of control: what several machines share, and what the data plane follows.

    release   PIPELINE            the release's document; its versions are its history
    document  PIPELINE/REVISION   text of a pipeline document
    removal   PIPELINE            the last number before the pipeline was taken out of service, and the version that took it out
    freeze    all                 automation is stopped

A release's number is the version of its record, apart from removals: they take a version, and no number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from headrace.catalog.access import Change, LeaseToken, Record, Records, Write
from headrace.catalog.errors import (
    RecordChangedError,
    RecordInvalidError,
    RecordsDivergedError,
    RecordsUnavailableError,
    Unavailable,
)
from headrace.releases.document import Release, from_bytes, to_bytes
from headrace.releases.errors import FrozenError, ReleaseError, StaleError
from headrace.releases.store import KEPT, REMOVED, Broken, Freeze

RELEASE, DOCUMENT, REMOVAL, FREEZE = "release", "document", "removal", "freeze"
# The one record of its kind.
ALL = "all"
# Reads of two records that belong together.
_LOOKS = 5
# What the line of the audit says by itself.
_IN_THE_LINE = ("author", "reason")


@dataclass(frozen=True, slots=True)
class _Removal:
    """A pipeline was taken out of service: its last number, and the version of the record that says so."""

    number: int = 0
    version: int = 0


@dataclass(frozen=True, slots=True)
class _History:
    """What is stored of a pipeline. `versions`: (number, record) since it was removed last, newest first."""

    removal: _Removal
    versions: tuple[tuple[int, Record], ...]

    @property
    def newest(self) -> int:
        """The last number that was given; 0: none was."""
        return self.versions[0][0] if self.versions else self.removal.number

    @property
    def version(self) -> int:
        """Of the record now; 0: it was never written."""
        return self.versions[0][1].version if self.versions else self.removal.version

    def readable(self) -> list[Release]:
        """Newest first."""
        found = []
        for number, record in self.versions:
            try:
                found.append(_release(number, record))
            except ReleaseError:
                continue
        return found


class RecordReleases:
    """A `ReleaseStore` over records. Threads may share it. `actor`: who removes pipelines and ends a freeze, for the audit."""

    def __init__(self, records: Records, actor: str = "headrace") -> None:
        self.records = records
        self._actor = actor

    def pipelines(self) -> list[str]:
        return [record.name for record in self.records.list(RELEASE, names_only=True)]

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        history = self._history(pipeline)
        broken: Broken | None = None
        for number, record in history.versions:
            try:
                return _release(number, record), broken
            except ReleaseError as error:
                broken = broken or Broken(pipeline, number, "; ".join(error.problems))
        if broken is None and history.removal.number:
            broken = Broken(pipeline, history.removal.number, REMOVED)
        return None, broken

    def history(self, pipeline: str) -> list[Release]:
        return self._history(pipeline).readable()

    def commit(
        self,
        release: Release,
        documents: Mapping[str, str] = MappingProxyType({}),
        *,
        automatic: bool = False,
        lease: LeaseToken | None = None,
    ) -> None:
        """See ReleaseStore. `automatic`: no person decided it, so it raises FrozenError if automation is stopped then. `lease`:
        must be held then; raises LeaseLostError."""
        while True:
            requires = self._unfrozen(release.pipeline) if automatic else {}
            change = replace(self._change(release, documents), lease=lease, requires=requires)
            try:
                self._make(release.pipeline, change)
                return
            except RecordChangedError:
                continue  # look again: the release is stale now

    def remove(self, pipeline: str) -> None:
        while (history := self._history(pipeline)).versions:
            last = json.dumps({"number": history.newest, "version": history.version + 1}).encode()
            documents = self.records.list(DOCUMENT, f"{pipeline}/", names_only=True)
            writes = [
                Write(RELEASE, pipeline, None, history.version),
                Write(REMOVAL, pipeline, last),
                *(Write(DOCUMENT, record.name, None) for record in documents),
            ]
            details = {"number": str(history.newest)}
            try:
                self._make(pipeline, Change(self._actor, "release.remove", pipeline, writes, details=details))
            except RecordChangedError:
                continue
            return

    def document(self, pipeline: str, revision: str) -> str | None:
        content = _content(self.records.read(DOCUMENT, f"{pipeline}/{revision}"))
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError:
            return None

    def freeze(self, freeze: Freeze | None) -> None:
        if freeze is None:
            if _content(self.records.read(FREEZE, ALL)) is not None:
                self._make(ALL, Change(self._actor, "automation.unfreeze", ALL, [Write(FREEZE, ALL, None)]))
            return
        about = {"author": freeze.author, "reason": freeze.reason, "at": freeze.at.isoformat()}
        writes = [Write(FREEZE, ALL, json.dumps(about).encode())]
        self._make(ALL, Change(freeze.author, "automation.freeze", ALL, writes, freeze.reason))

    def frozen(self) -> Freeze | None:
        content = _content(self.records.read(FREEZE, ALL))
        return None if content is None else freeze_of(content)

    def close(self) -> None:
        self.records.close()

    def _change(self, release: Release, documents: Mapping[str, str]) -> Change:
        """Raises StaleError, ReleaseError."""
        name, history = release.pipeline, self._history(release.pipeline)
        if release.parent != history.newest or release.number != history.newest + 1:
            raise StaleError(name, history.newest, release.number)
        stored = {record.name for record in self.records.list(DOCUMENT, f"{name}/", names_only=True)}
        new: dict[str, str] = {}
        for key, arm in release.arms.items():
            if f"{name}/{arm.revision}" not in stored:
                if arm.revision not in documents:
                    what = f"no document of revision {arm.revision[:12]}… is stored; deploy it first"
                    raise ReleaseError(name, [f"arms.{key}.revision: {what}"])
                new[arm.revision] = documents[arm.revision]
        earlier = history.readable()
        named = {revision for kept in (release, *earlier[: KEPT - 1]) for revision in kept.revisions()}
        left = {revision for gone in earlier[KEPT - 1 :] for revision in gone.revisions()} - named
        return Change(
            release.author,
            f"release.{'rollback' if _goes_back(earlier, release) else 'change'}",
            name,
            [
                Write(RELEASE, name, to_bytes(release), history.version),
                *(Write(DOCUMENT, f"{name}/{revision}", text.encode()) for revision, text in new.items()),
                *(Write(DOCUMENT, f"{name}/{revision}", None) for revision in sorted(left)),
            ],
            release.reason,
            {k: str(v) for k, v in facts(release).items() if v != "" and k not in _IN_THE_LINE},
        )

    def _unfrozen(self, pipeline: str) -> dict[tuple[str, str], int]:
        """The version of the freeze that stops nothing. Raises FrozenError."""
        versions = self.records.read(FREEZE, ALL)
        if (content := _content(versions)) is not None:
            freeze = freeze_of(content)
            raise FrozenError(pipeline, freeze.author, freeze.reason)
        return {(FREEZE, ALL): versions[0].version if versions else 0}

    def _history(self, pipeline: str) -> _History:
        for _ in range(_LOOKS):
            versions = self.records.read(RELEASE, pipeline, KEPT)
            removal = _removal(self.records.read(REMOVAL, pipeline))
            if removal.version <= (versions[0].version if versions else 0):
                break  # else it was removed between the two
        since = [record for record in versions if record.version > removal.version]
        numbered = ((removal.number + record.version - removal.version, record) for record in since)
        return _History(removal, tuple(numbered))

    def _make(self, pipeline: str, change: Change) -> None:
        """Raises RecordChangedError, and what callers of a store expect."""
        try:
            self.records.change(change)
        except RecordInvalidError as error:
            raise ReleaseError(pipeline, [f"({error.kind}): {error.problem}"]) from None
        except RecordsDivergedError as error:
            raise RecordsUnavailableError(Unavailable.READ_ONLY, str(error)) from None


def facts(release: Release) -> dict[str, str | int]:
    """What the audit says of it; `sha256` is the content hash that is stored with the release."""
    rollout = release.rollout
    return {
        "number": release.number,
        "parent": release.parent,
        "sha256": str(json.loads(to_bytes(release))["sha256"]),
        "author": release.author,
        "reason": release.reason,
        "verdict": rollout.verdict if rollout else "",
        "restores": release.restores or "",
    }


def freeze_of(content: bytes) -> Freeze:
    """Who stopped automation, as the record says."""
    try:
        about = json.loads(content)
        return Freeze(str(about["author"]), str(about["reason"]), datetime.fromisoformat(about["at"]))
    except (ValueError, KeyError, TypeError):
        # Somebody wanted automation to stop; that this can't be read is no reason to go on.
        return Freeze("unknown", "the freeze can't be read", datetime.fromtimestamp(0).astimezone())


def _release(number: int, record: Record) -> Release:
    """Raises ReleaseError."""
    release = from_bytes(record.name, record.content or b"")
    if release.number != number:
        problem = f"number: the document of release {number} says {release.number}"
        raise ReleaseError(record.name, [problem])
    return release


def _goes_back(earlier: list[Release], release: Release) -> bool:
    # Imported here, as it needs the pipeline document, and NumPy with it; a commit is rare.
    from headrace.releases.changes.rollback import arm_rolled_back

    return bool(earlier) and arm_rolled_back(earlier[0], release) is not None


def _removal(versions: list[Record]) -> _Removal:
    content = _content(versions)
    return _Removal() if content is None else _Removal(**json.loads(content))


def _content(versions: list[Record]) -> bytes | None:
    return versions[0].content if versions else None
