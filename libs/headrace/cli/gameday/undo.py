"""What a fault changes is written down before it is changed, so that whoever comes can undo it: the command itself, its guard
when it was killed, or a person by `headrace gameday --undo`.

A file is put back only if it still holds what the fault wrote: what somebody has changed since then is theirs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headrace.state import atomic

_SECRET = 0o600


class Undo:
    """Of one home, in a folder of its own. All methods raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._plan = folder / "undo.json"

    def pending(self) -> str:
        """Name of the fault that is to be undone; empty: none."""
        with self._locked():
            return str(self._read().get("fault", ""))

    def write(self, fault: str, files: Mapping[Path, bytes]) -> None:
        """Writes these contents, once it is noted what was there. All paths must be of files that exist."""
        with self._locked():
            noted = [
                self._noted(number, path, content) for number, (path, content) in enumerate(files.items())
            ]
            self._note({"fault": fault, "files": noted})
            for path, content in files.items():
                atomic.write(path, content, mode=stat.S_IMODE(path.stat().st_mode))

    def stop(self, fault: str, pid: int) -> None:
        """SIGSTOP, once it is noted. Raises ProcessLookupError."""
        with self._locked():
            self._note({"fault": fault, "stopped": [{"pid": pid, "started": started(pid)}]})
            os.kill(pid, signal.SIGSTOP)

    def apply(self) -> list[str]:
        """Undoes what is noted, if anything is; what it did, in words. May be called again."""
        with self._locked():
            plan = self._read()
            done = [self._restored(file) for file in plan.get("files", ())]
            done += [words for process in plan.get("stopped", ()) if (words := _continued(process))]
            self._plan.unlink(missing_ok=True)
            for kept in self._folder.glob("kept-*"):
                kept.unlink()
        return done

    def _noted(self, number: int, path: Path, content: bytes) -> dict[str, Any]:
        kept = self._folder / f"kept-{number}"
        atomic.write(kept, path.read_bytes(), mode=_SECRET)
        return {"path": str(path), "kept": kept.name, "wrote": _hash(content)}

    def _restored(self, file: Mapping[str, Any]) -> str:
        path, kept = Path(file["path"]), self._folder / file["kept"]
        try:
            now = _hash(path.read_bytes())
        except FileNotFoundError:
            now = ""
        good = kept.read_bytes()
        if now == _hash(good):
            return f"{path} was as before"
        if now != file["wrote"]:
            theirs = path.with_name(f"{path.name}.before-gameday")
            shutil.copy2(kept, theirs)
            return (
                f"{path} was changed by somebody since then, and stays; what was there before is in {theirs}"
            )
        atomic.write(path, good, mode=stat.S_IMODE(path.stat().st_mode))
        return f"{path} put back"

    def _note(self, plan: Mapping[str, Any]) -> None:
        atomic.write(self._plan, json.dumps(plan).encode(), mode=_SECRET)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._plan.read_text()))
        except FileNotFoundError:
            return {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def started(pid: int) -> str:
    """When a process began, as the kernel counts: with its pid it names it for good. Raises ProcessLookupError."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error


def _continued(process: Mapping[str, Any]) -> str:
    pid = int(process["pid"])
    with suppress(ProcessLookupError):
        if started(pid) == process["started"]:
            os.kill(pid, signal.SIGCONT)
            return f"process {pid} goes on"
    return ""


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
