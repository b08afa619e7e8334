"""State files that all executor processes with the same state folder share.

They record which versions serve, which model files are known to load, how fast they ran, and which versions are in quarantine.
Each is one JSON file, replaced in one step; a process changes it under a lock. If a file can't be read or written, the process
continues with its last known state, and the log says what is wrong.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headrace.state import atomic, plain_files

SERVING, CHECKED, QUARANTINE, MEASURED = "serving.json", "checked.json", "quarantine.json", "measured.json"
# The number of model files of which it is remembered that they load, and how fast they ran; older ones are checked again.
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


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a model on one of its backends. `threads`: of one run; 0: not measured. `run_s`: seconds by rows."""

    threads: int = 0
    run_s: Mapping[int, float] = field(default_factory=dict)


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
        self._running: tuple[Path, int] | None = None  # the marker of this process

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
        self._put(CHECKED, fingerprint, asdict(checked))

    def measured(self, key: str) -> tuple[Measured, ...]:
        """What was measured under `key` on each backend of a model, in their order; empty: nothing."""
        try:
            return tuple(
                Measured(int(one["threads"]), {int(rows): float(s) for rows, s in one["run_s"].items()})
                for one in self._read(MEASURED).get(key, ())
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            self._tell("a measurement can't be read; it is made again", file=MEASURED, why=str(error))
            return ()

    def measure(self, key: str, measured: Sequence[Measured]) -> None:
        """Records what was measured under `key`."""
        self._put(MEASURED, key, [asdict(one) for one in measured])

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
        descriptor = _marked(mark)
        try:
            yield
        finally:
            if descriptor is not None:
                _unmark(mark, descriptor)

    def count_deaths(self) -> None:
        """Finds markers of dead processes. Records a death for the files named in a marker; these are no longer `good`."""
        if self.folder is None:
            return
        for mark, dead in _examined(self.folder / "loading"):
            if dead:  # else another process loads these files now, or has already counted this death
                fingerprint = mark.name.partition(".")[0]
                known = self.checked(fingerprint)
                self.note(fingerprint, Checked(False, known.memory_bytes, known.deaths + 1))

    def begin(self) -> bool:
        """Marks that this process serves, until `end`. Returns whether it takes the place of one that died: one did not come to
        its `end`, and no other one serves now."""
        if self.folder is None:
            return False
        found = [dead for _, dead in _examined(self.folder / "running")]
        # Not named by its number: processes of several containers may have the same one.
        mark = self.folder / "running" / secrets.token_hex(8)
        descriptor = _marked(mark)
        self._running = None if descriptor is None else (mark, descriptor)
        return bool(found) and all(found)

    def end(self) -> None:
        """This process serves no longer."""
        if self._running is not None:
            _unmark(*self._running)
            self._running = None

    def save(self) -> None:
        """Writes the changes that could not be written before."""
        for name in list(self._unsaved):
            self._change(name, None)

    def _put(self, name: str, key: str, value: object) -> None:
        """Puts a value into a file that holds the newest _KEPT ones."""

        def change(found: Document) -> None:
            found.pop(key, None)
            found[key] = value
            while len(found) > _KEPT:
                del found[next(iter(found))]

        self._change(name, change)

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


def _marked(mark: Path) -> int | None:
    """The descriptor of a new locked marker file; None if it can't be written (disk full): a crash will not be detected."""
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _unmark(mark: Path, descriptor: int) -> None:
    with suppress(OSError):
        mark.unlink(missing_ok=True)
    os.close(descriptor)


def _examined(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Each marker in the folder, and whether its process has died; then it is removed."""
    for mark in sorted(folder.glob("*")):
        try:
            descriptor = os.open(mark, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mark.unlink()
        except OSError:
            yield mark, False
        else:
            yield mark, True
        finally:
            os.close(descriptor)


def _serving(found: Document) -> dict[str, list[str]]:
    """Without what is no list of texts: a model for which somebody else wrote that counts as new."""
    return {
        name: versions
        for name, versions in found.items()
        if isinstance(versions, list) and all(isinstance(v, str) for v in versions)
    }
