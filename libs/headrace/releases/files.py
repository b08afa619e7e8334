"""Releases in files, for the processes of one machine.

    FOLDER/PIPELINE/17.json            one file per release, written once
    FOLDER/PIPELINE/documents/SHA.yaml the pipeline documents that releases name
    FOLDER/PIPELINE/removed            the last number before the pipeline was taken out of service
    FOLDER/frozen.json                 automation is stopped

A release becomes current by creating the file of its number, which only one process can do: that is the compare-and-set. The
current release is the highest number that can be read; so no pointer can be lost or point at nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from headrace.releases.document import MAX_BYTES, Release, from_bytes, to_bytes
from headrace.releases.errors import ReleaseError, StaleError
from headrace.releases.store import KEPT, REMOVED, Broken, Freeze
from headrace.state import atomic, plain_files

_DOCUMENTS = "documents"
_FROZEN = "frozen.json"
_REMOVED = "removed"
_LOCK = ".lock"
_NUMBER = re.compile(r"([1-9][0-9]{0,17})\.json")
_REVISION = re.compile(r"[0-9a-f]{64}")
_POLL_S = 0.2
_YOUNG_S = 3600.0


class FileReleases:
    """A `ReleaseStore` in the folder `folder`, which is created when it is first written to."""

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        """`writes` False: `put` and `keep_document` do nothing."""
        self.folder = folder
        self._writes = writes
        self._closed = threading.Event()

    def pipelines(self) -> list[str]:
        try:
            folders = [p.name for p in self.folder.iterdir() if p.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in folders if self._numbers(name))

    def current(self, pipeline: str) -> tuple[Release | None, Broken | None]:
        broken: Broken | None = None
        for number in self._numbers(pipeline):
            try:
                return self._read(pipeline, number), broken
            except ReleaseError as error:
                broken = broken or Broken(pipeline, number, "; ".join(error.problems))
        if broken is None and (last := self._last_removed(pipeline)):
            broken = Broken(pipeline, last, REMOVED)
        return None, broken

    def history(self, pipeline: str) -> list[Release]:
        found = []
        for number in self._numbers(pipeline):
            with suppress(ReleaseError):
                found.append(self._read(pipeline, number))
        return found

    def commit(self, release: Release) -> None:
        folder = self.folder / release.pipeline
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One at a time: a process that stalls here while others commit must not bring back a number that was removed meanwhile.
        with _locked(folder):
            self._commit(release, folder)

    def _commit(self, release: Release, folder: Path) -> None:
        # A broken newest release keeps its number: the next one follows it.
        numbers = [*self._numbers(release.pipeline), self._last_removed(release.pipeline)]
        newest = max(numbers)
        if release.parent != newest or release.number != newest + 1:
            raise StaleError(release.pipeline, newest, release.number)
        for name, arm in release.arms.items():
            if self.document(release.pipeline, arm.revision) is None:
                problem = f"arms.{name}.revision: no document of revision {arm.revision[:12]}… is stored; deploy it first"
                raise ReleaseError(release.pipeline, [problem])
        if not _create(folder / f"{release.number}.json", to_bytes(release)):
            raise StaleError(release.pipeline, release.number, release.number)
        with suppress(OSError):
            self._remove_old(release.pipeline)

    def put(self, release: Release) -> None:
        """Writes a copy of another store's release, whatever is here: only for mirrors. Raises OSError."""
        if not self._writes:
            return
        folder = self.folder / release.pipeline
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content, path = to_bytes(release), folder / f"{release.number}.json"
        if not path.exists() or plain_files.read(path) != content:
            atomic.write(path, content, mode=0o600)
        for number in self._numbers(release.pipeline):
            if number != release.number:
                (folder / f"{number}.json").unlink(missing_ok=True)

    def remove(self, pipeline: str) -> None:
        """Takes a pipeline out of service, with its history."""
        if not self._writes:
            return
        folder = self.folder / pipeline
        numbers = self._numbers(pipeline)
        if numbers:
            # Numbers go on from here, so that counts and evidence of a release never belong to another one.
            atomic.write(folder / _REMOVED, str(numbers[0]).encode(), mode=0o600)
        for number in reversed(numbers):  # the newest last: no older one may become current meanwhile
            (folder / f"{number}.json").unlink(missing_ok=True)
        shutil.rmtree(folder / _DOCUMENTS, ignore_errors=True)

    def keep_document(self, pipeline: str, revision: str, text: str) -> None:
        if not self._writes:
            return
        folder = self.folder / pipeline / _DOCUMENTS
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic.write(folder / f"{revision}.yaml", text.encode(), mode=0o600)

    def document(self, pipeline: str, revision: str) -> str | None:
        if not _REVISION.fullmatch(revision):
            return None
        try:
            return plain_files.read(self.folder / pipeline / _DOCUMENTS / f"{revision}.yaml").decode()
        except (OSError, UnicodeDecodeError):
            return None

    def freeze(self, freeze: Freeze | None) -> None:
        path = self.folder / _FROZEN
        if freeze is None:
            path.unlink(missing_ok=True)
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = {"author": freeze.author, "reason": freeze.reason, "at": freeze.at.isoformat()}
        atomic.write(path, json.dumps(about).encode(), mode=0o600)

    def frozen(self) -> Freeze | None:
        try:
            about = json.loads(plain_files.read(self.folder / _FROZEN))
            return Freeze(str(about["author"]), str(about["reason"]), datetime.fromisoformat(about["at"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            # Somebody wanted automation to stop; that the file can't be read is no reason to go on.
            return Freeze("unknown", "frozen.json can't be read", datetime.fromtimestamp(0).astimezone())

    def wait(self, seen: str, timeout_s: float) -> str:
        end = time.monotonic() + timeout_s
        while (state := self._state()) == seen:
            left = end - time.monotonic()
            if left <= 0 or self._closed.wait(min(left, _POLL_S)):
                break
        return state

    def close(self) -> None:
        self._closed.set()

    def _state(self) -> str:
        """Changes whenever a release, or the freeze, does: names, sizes and times of the files."""
        found = []
        for folder in (self.folder, *(self.folder / name for name in self._folders())):
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name == _FROZEN or _NUMBER.fullmatch(entry.name):
                            status = entry.stat()
                            found.append(
                                (folder.name, entry.name, status.st_mtime_ns, status.st_size, status.st_ino)
                            )
            except FileNotFoundError:
                continue
        return repr(sorted(found))

    def _folders(self) -> list[str]:
        try:
            return [p.name for p in self.folder.iterdir() if p.is_dir()]
        except FileNotFoundError:
            return []

    def _numbers(self, pipeline: str) -> list[int]:
        """Numbers of the stored releases, newest first."""
        try:
            names = [p.name for p in (self.folder / pipeline).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((int(m[1]) for m in map(_NUMBER.fullmatch, names) if m), reverse=True)

    def _last_removed(self, pipeline: str) -> int:
        """Number of the last release before the pipeline was removed; 0: it never was."""
        try:
            return int(plain_files.read(self.folder / pipeline / _REMOVED))
        except (OSError, ValueError):
            return 0

    def _read(self, pipeline: str, number: int) -> Release:
        try:
            content = plain_files.read(self.folder / pipeline / f"{number}.json", MAX_BYTES + 1)
        except OSError as error:
            raise ReleaseError(pipeline, [f"(document): can't be read ({error.strerror})"]) from None
        release = from_bytes(pipeline, content)
        if release.number != number:
            raise ReleaseError(pipeline, [f"number: the file of release {number} says {release.number}"])
        return release

    def _remove_old(self, pipeline: str) -> None:
        for number in self._numbers(pipeline)[KEPT:]:
            (self.folder / pipeline / f"{number}.json").unlink(missing_ok=True)
        kept = {revision for release in self.history(pipeline) for revision in release.revisions()}
        # Young documents may belong to a release that another process is about to commit.
        young = datetime.now(UTC).timestamp() - _YOUNG_S
        for path in (self.folder / pipeline / _DOCUMENTS).glob("*.yaml"):
            if path.stem not in kept and path.stat().st_mtime < young:
                path.unlink(missing_ok=True)


def _create(path: Path, content: bytes) -> bool:
    """Creates the file in one step; False if it is there already. Once this returns, it survives a crash of the machine."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    atomic.sync_folder(path.parent)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a pipeline's folder. The kernel releases it when the process ends."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
