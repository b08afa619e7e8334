"""What tenants use, counted together by the ingresses of one machine, in shared memory without locks.

Each process writes its own file in a common folder, mapped into memory, and reads those of the others. Only its owner
writes a number, so no update is lost. The kernel releases the lock on a file when its owner dies, so the others notice.
A request costs a few reads and writes of eight bytes for each process there is.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

# A record: the tenant's name, then numbers of eight bytes: rows and bytes taken since the process began, the most that one
# request took of each, its requests in flight. Records are never given to another tenant; tenants beyond the last are
# counted by each process alone.
_NAME_BYTES = 64
_RECORD_BYTES = _NAME_BYTES + 40
_RECORDS = 32_768
ROWS, BYTES = 0, 1
_LARGEST, _IN_FLIGHT = 2, 4
# In front of the records: how many there are. Written last, so that whoever reads it finds them whole.
_HEAD_BYTES = 80
# Another one than that of older versions, whose records are of another form.
_SUFFIX = ".use"
_FILE_BYTES = _HEAD_BYTES + _RECORDS * _RECORD_BYTES


@dataclass(slots=True)
class _PeerCounters:
    """A tenant's record in the file of another process, and how much of its rows and bytes is accounted for."""

    numbers: memoryview[float]
    at: int
    seen: list[float]


class TenantCounters:
    """One tenant's record here, and what the others have for it."""

    __slots__ = ("_at", "_numbers", "others")

    def __init__(self, numbers: memoryview[float], at: int) -> None:
        self._numbers = numbers
        self._at = at
        # By the inode of the other's file.
        self.others: dict[int, _PeerCounters] = {}

    def take(self, what: int, amount: float) -> None:
        """So many ROWS or BYTES were taken by one request."""
        numbers, at = self._numbers, self._at + what
        # Before the sum: whoever reads the sum finds it.
        if amount > numbers[at + _LARGEST]:
            numbers[at + _LARGEST] = amount
        numbers[at] += amount

    def begin(self) -> None:
        """A request has begun."""
        self._numbers[self._at + _IN_FLIGHT] += 1.0

    def end(self) -> None:
        """A request has ended."""
        self._numbers[self._at + _IN_FLIGHT] -= 1.0

    def taken_elsewhere(self, what: int) -> tuple[float, float]:
        """ROWS or BYTES that others took since the last time this was asked; the most that one request of theirs took."""
        taken = largest = 0.0
        for other in self.others.values():
            at = other.at + what
            used = other.numbers[at]
            taken += used - other.seen[what]
            other.seen[what] = used
            largest = max(largest, other.numbers[at + _LARGEST])
        return taken, largest

    def in_flight_elsewhere(self) -> int:
        """Requests that are in flight in other processes."""
        return int(sum(other.numbers[other.at + _IN_FLIGHT] for other in self.others.values()))


class _PeerFile:
    """The file of another process, as far as it was read."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._map = mmap.mmap(self._descriptor, _FILE_BYTES, access=mmap.ACCESS_READ)
        self.numbers = memoryview(self._map).cast("d")
        # Where each tenant's numbers begin.
        self.places: dict[str, int] = {}

    @property
    def orphaned(self) -> bool:
        """Whether its owner has ended."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self) -> list[str]:
        """Takes in the tenants that came since the last call; their names."""
        found, count = [], int(self.numbers[0])
        for record in range(len(self.places), count):
            start = _HEAD_BYTES + record * _RECORD_BYTES
            name = self._map[start : start + _NAME_BYTES].rstrip(b"\0").decode()
            self.places[name] = (start + _NAME_BYTES) // 8
            found.append(name)
        return found

    def close(self) -> None:
        # The map goes with the last reader of its numbers.
        os.close(self._descriptor)


class SharedCounters:
    """This process's file among those of `folder`."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder can't be used."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        self._tenants: dict[str, TenantCounters] = {}
        self._files: dict[int, _PeerFile] = {}
        # Locked before it gets its name: no other process may take it for the file of a dead one.
        partial = self._path.with_suffix(".new")
        self._descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            # All of it now: where the disk has no room for a page that is written later, the kernel ends the process.
            os.posix_fallocate(self._descriptor, 0, _FILE_BYTES)
        except OSError:
            partial.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise
        self._map = mmap.mmap(self._descriptor, _FILE_BYTES)
        self._numbers = memoryview(self._map).cast("d")
        partial.replace(self._path)
        self.refresh()

    def counters(self, tenant: str) -> TenantCounters | None:
        """The tenant's; None if there is no room for one more."""
        found = self._tenants.get(tenant)
        if found is None and (count := len(self._tenants)) < _RECORDS:
            start = _HEAD_BYTES + count * _RECORD_BYTES
            name = tenant.encode()
            self._map[start : start + len(name)] = name
            found = self._tenants[tenant] = TenantCounters(self._numbers, (start + _NAME_BYTES) // 8)
            self._numbers[0] = count + 1.0
            for inode, file in self._files.items():
                if (at := file.places.get(tenant)) is not None:
                    # What was taken before this tenant came here is no concern of a bucket that begins now.
                    found.others[inode] = _PeerCounters(file.numbers, at, list(file.numbers[at : at + 2]))
        return found

    def refresh(self) -> None:
        """Finds processes that have started or ended. Called periodically, not in a request."""
        present = {e.inode(): e.path for e in os.scandir(self._path.parent) if self._is_anothers(e)}
        for inode in [i for i, file in self._files.items() if i not in present or file.orphaned]:
            self._files.pop(inode).close()
            for counters in self._tenants.values():
                counters.others.pop(inode, None)
        for inode in present.keys() - self._files.keys():
            self._add_peer(inode, present[inode])
        for inode, file in self._files.items():
            for tenant in file.read():
                if tenant in self._tenants:
                    at = file.places[tenant]
                    self._tenants[tenant].others[inode] = _PeerCounters(file.numbers, at, [0.0, 0.0])

    def _is_anothers(self, entry: os.DirEntry[str]) -> bool:
        return entry.name.endswith(_SUFFIX) and entry.name != self._path.name

    def _add_peer(self, inode: int, path: str) -> None:
        try:
            file = _PeerFile(path)
        except FileNotFoundError:
            return  # it went meanwhile
        if file.orphaned:
            file.close()
            Path(path).unlink(missing_ok=True)  # its name was nobody else's
        else:
            self._files[inode] = file

    def close(self) -> None:
        """Removes this process's counts."""
        self._path.unlink(missing_ok=True)
        for file in self._files.values():
            file.close()
        os.close(self._descriptor)
