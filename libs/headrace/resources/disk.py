"""What a process has, in a folder of its own, so that it starts without control.

    FOLDER/manifest      the signed manifest with the names and hashes of its resources
    FOLDER/objects/HASH  the content of each, and of what proved itself last
    FOLDER/trials.json   what is being tried and what has proven itself
    FOLDER/compiled      hashes of what is being compiled, 32 bytes each, zero: none
    FOLDER/lock          held by the process

Contents are written before the manifest that names them, and removed after it. What is read is verified: signature and hashes.
What is damaged, or of somebody else, is as absent, and `problems` says so.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from headrace.resources.manifest import (
    MAX_LISTING_BYTES,
    ManifestError,
    VerifiedPart,
    Verifier,
    from_listing,
    to_listing,
)
from headrace.resources.snapshot import Resource
from headrace.resources.trials import Trials
from headrace.state import atomic, plain_files

MAX_CONTENT_BYTES = 1 << 26
COMPILED_SLOTS = 32


class DiskBusyError(OSError):
    """Another process has the folder."""


class Disk:
    """The folder of one process. Raises OSError, DiskBusyError if another process has it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems: list[str] = []
        _make(folder / "objects")
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise DiskBusyError(
                f"another process keeps its resources in {folder}; give each its own"
            ) from None
        self._compiled = os.open(folder / "compiled", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for draft in (*folder.glob(".*"), *(folder / "objects").glob(".*")):
            draft.unlink()
        # Contents that this process has verified or written; another file of such a name may be damaged.
        self._sound: set[str] = set()

    def close(self) -> None:
        """Lets another process have the folder."""
        os.close(self._compiled)
        os.close(self._lock)

    def read(self, verifier: Verifier, service: str) -> VerifiedPart | None:
        """What the process had; None: nothing that can be used."""
        try:
            part = read_folder(self.folder, verifier, service)
            self._sound = {r.sha256.hex() for r in part.snapshot.resources.values()}
            return part
        except FileNotFoundError as error:
            if Path(error.filename or "").name != "manifest":
                self.problems.append(f"{self.folder}: a content is missing")
        except (OSError, ManifestError) as error:
            self.problems.append(f"{self.folder}: {error}")
        return None

    def write(self, part: VerifiedPart, used: Collection[str] = ()) -> None:
        """Makes the part what the process has. `used`: hashes of contents that are needed beside it. Raises OSError."""
        wanted = {r.sha256.hex(): r.content for r in part.snapshot.resources.values()}
        if fresh := wanted.keys() - self._sound:
            for name in sorted(fresh):
                atomic.replace(self.folder / "objects" / name, wanted[name], mode=0o600)
            atomic.sync_folder(self.folder / "objects")
            self._sound |= fresh
        atomic.write(self.folder / "manifest", to_listing(part), mode=0o600)
        needed = wanted.keys() | set(used)
        self._sound &= needed
        for path in (self.folder / "objects").iterdir():
            if path.name not in needed:
                path.unlink(missing_ok=True)

    def resource(self, kind: str, name: str, sha256: str, version: int) -> Resource | None:
        """A resource by the hash of its content; None: it is not there."""
        with suppress(OSError):
            [content] = _contents(self.folder, [bytes.fromhex(sha256)])
            found = Resource.of(kind, name, content, version)
            return found if found.sha256.hex() == sha256 else None
        return None

    def read_trials(self) -> Trials:
        """What the process before this one left, as it counts for this one."""
        try:
            before = Trials.from_bytes(plain_files.read(self.folder / "trials.json"))
        except FileNotFoundError:
            return Trials()
        except (OSError, ValueError) as error:
            self.problems.append(f"{self.folder}: {error}")
            return Trials()
        found = os.pread(self._compiled, 32 * COMPILED_SLOTS, 0)
        slots = {found[i : i + 32].hex() for i in range(0, len(found), 32)}
        trials = Trials.recovered(before, slots)
        try:
            self.write_trials(trials)
            self.write_compiled(())
        except OSError as error:
            self.problems.append(f"{self.folder}: {error}")
            # A second chance that can't be noted would be given at every start.
            before.retried |= before.marked
            trials = Trials.recovered(before, slots)
        return trials

    def write_trials(self, trials: Trials) -> None:
        """Raises OSError."""
        atomic.write(self.folder / "trials.json", trials.to_bytes(), mode=0o600)

    def write_compiled(self, hashes: Iterable[str]) -> None:
        """Notes what is being compiled, for the process after a crash of this one: no fsync, as the machine goes on then."""
        slots = b"".join(bytes.fromhex(h) for h in hashes)[: 32 * COMPILED_SLOTS]
        with suppress(OSError):
            os.pwrite(self._compiled, slots.ljust(32 * COMPILED_SLOTS, b"\0"), 0)


def read_folder(folder: Path, verifier: Verifier, service: str) -> VerifiedPart:
    """What a process has, or had; another one may have the folder. Raises OSError, ManifestError."""
    listing = plain_files.read(folder / "manifest", MAX_LISTING_BYTES + 1)
    return from_listing(listing, verifier, service, lambda hashes: _contents(folder, hashes))


def _contents(folder: Path, hashes: list[bytes]) -> Iterator[bytes]:
    for sha256 in hashes:
        yield plain_files.read(folder / "objects" / sha256.hex(), MAX_CONTENT_BYTES)


def _make(folder: Path) -> None:
    """Makes it, so that it survives a crash of the machine."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        atomic.sync_folder(folder.parent)
