"""State files that all executor processes with the same state folder share.

They record which versions serve, which model files are known to load, and which versions are in quarantine. Each is one JSON
file, replaced in one step; a process changes it under a lock. If a file can't be read or written, the process continues with
its last known state, and the log says what is wrong.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.state import atomic, plain_files

SERVING, CHECKED, QUARANTINE = "serving.json", "checked.json", "quarantine.json"
# The number of checked model files that are remembered; older ones are checked again.
_KEPT = 1024
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known about a model's files. `good`: they were loaded successfully in a separate process.

    `memory_bytes`: the memory that they needed there. `deaths`: how many executor processes died while they loaded the files.
    """

    good: bool = False
    memory_bytes: int = 0
    deaths: int = 0


class Records:
    """The files in `folder`; None: kept in memory only. Several threads and processes may use it.

    `tell`: called when something is wrong with a file, with the arguments of `log.error`.
    """

    def __init__(self, folder: Path | None, tell: Callable[..., object] = lambda *_, **__: None) -> None:
        self.folder = folder
        self._tell = tell
        self._held: dict[str, Document] = {}
        # Changes that could not be written yet, by file, in order.
        self._unsaved: dict[str, list[Callable[[Document], None]]] = {}
        self._seen: tuple[int, int] | None = None

    @property
    def saved(self) -> bool:
        """Whether all changes of this process are written."""
        return not self._unsaved

    def serving(self) -> dict[str, list[str]]:
        """Model → the versions that serve; the last one answers calls that name no version. A known model may have none."""
        return _serving(self._read(SERVING))

    def news(self) -> dict[str, list[str]]:
        """The same as `serving` if the file has changed since the last call; otherwise empty."""
        if self.folder is None or self._unsaved:
            return {}
        try:
            stamp = (self.folder / SERVING).stat()
        except OSError:
            return {}
        seen, self._seen = self._seen, (stamp.st_mtime_ns, stamp.st_ino)
        return self.serving() if seen != self._seen else {}

    def serve(self, model: str, version: str) -> None:
        """Records that the version serves, and answers calls that name no version."""

        def change(found: Document) -> None:
            found[model] = [*(v for v in _serving(found).get(model, ()) if v != version), version]

        self._change(SERVING, change)

    def stop(self, model: str, version: str) -> None:
        """Records that the version no longer serves; the model stays known."""

        def change(found: Document) -> None:
            found[model] = [v for v in _serving(found).get(model, ()) if v != version]

        self._change(SERVING, change)

    def forget(self, model: str) -> None:
        """Removes a model that the repository no longer has."""
        self._change(SERVING, lambda found: found.pop(model, None))

    def checked(self, fingerprint: str) -> Checked:
        """What is known about the files with this fingerprint."""
        found: Any = self._read(CHECKED).get(fingerprint)
        try:
            return Checked(bool(found["good"]), int(found["memory_bytes"]), int(found["deaths"]))
        except (TypeError, KeyError, ValueError):
            return Checked()

    def note(self, fingerprint: str, checked: Checked) -> None:
        """Records what is known about the files with this fingerprint."""

        def change(found: Document) -> None:
            found.pop(fingerprint, None)
            known = {"good": checked.good, "memory_bytes": checked.memory_bytes, "deaths": checked.deaths}
            found[fingerprint] = known
            while len(found) > _KEPT:
                del found[next(iter(found))]

        self._change(CHECKED, change)

    def quarantined(self) -> dict[str, Mapping[str, Any]]:
        """NAME:VERSION → what is known about a version in quarantine."""
        return {k: v for k, v in self._read(QUARANTINE).items() if isinstance(v, dict)}

    def quarantine(self, key: str, about: Mapping[str, Any]) -> None:
        """Puts a version (NAME:VERSION) in quarantine."""
        self._change(QUARANTINE, lambda found: found.update({key: dict(about)}))

    def release(self, key: str) -> None:
        """Removes a version (NAME:VERSION) from quarantine, if it is in quarantine."""
        if key in self._read(QUARANTINE):
            self._change(QUARANTINE, lambda found: found.pop(key, None))

    @contextmanager
    def loading(self, fingerprint: str) -> Iterator[None]:
        """Keeps a locked marker file while files are loaded. A marker without a lock means: the process died while loading."""
        if self.folder is None:
            yield
            return
        mark = self.folder / "loading" / f"{fingerprint}.{os.getpid()}"
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError:
            yield  # no marker can be written (disk full): a crash will not be detected
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            with suppress(OSError):
                mark.unlink(missing_ok=True)
            os.close(descriptor)

    def count_deaths(self) -> None:
        """Finds markers of dead processes. Records a death for the files named in a marker; these are no longer `good`."""
        if self.folder is None:
            return
        for mark in sorted((self.folder / "loading").glob("*")):
            fingerprint = mark.name.partition(".")[0]
            try:
                descriptor = os.open(mark, os.O_RDONLY)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mark.unlink()
            except OSError:
                continue  # another process loads these files now, or has already counted this death
            finally:
                os.close(descriptor)
            known = self.checked(fingerprint)
            self.note(fingerprint, Checked(False, known.memory_bytes, known.deaths + 1))

    def save(self) -> None:
        """Writes the changes that could not be written before."""
        for name in list(self._unsaved):
            self._change(name, None)

    def _read(self, name: str) -> Document:
        """The JSON object of the file; if it can't be read, the last state that this process knew."""
        if self.folder is None or name in self._unsaved:
            return dict(self._held.get(name, {}))
        try:
            found = json.loads(plain_files.read(self.folder / name))
            if not isinstance(found, dict):
                raise ValueError("it holds no JSON object")  # noqa: TRY004 - the content of the file is wrong
        except FileNotFoundError:
            found = {}
        except (OSError, ValueError, RecursionError) as error:
            self._tell("a record can't be read; what was known before counts", file=name, why=str(error))
            return dict(self._held.get(name, {}))
        self._held[name] = found
        return dict(found)

    def _change(self, name: str, change: Callable[[Document], None] | None) -> None:
        """Changes the file under a lock. If it can't be written, changes the state in memory now and the file later."""
        waiting = [*self._unsaved.pop(name, ()), *([change] if change else [])]
        try:
            with self._locked():
                found = self._read(name)
                for each in waiting:
                    each(found)
                self._held[name] = found
                if self.folder is not None:
                    content = json.dumps(found, indent=1).encode() + b"\n"
                    atomic.write(self.folder / name, content, mode=0o600)
        except OSError as error:
            if change is not None:
                found = dict(self._held.get(name, {}))
                change(found)
                self._held[name] = found
                self._tell("a record can't be written; tried again", file=name, why=str(error))
            self._unsaved[name] = waiting

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self.folder is None:
            yield
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _serving(found: Document) -> dict[str, list[str]]:
    """Without what is no list of texts: a model for which somebody else wrote that counts as new."""
    return {
        name: versions
        for name, versions in found.items()
        if isinstance(versions, list) and all(isinstance(v, str) for v in versions)
    }
