"""How much tenants use, counted together by the ingresses of one machine, in shared memory without locks.

Each process writes its own file in a common folder, mapped into memory, and reads the files of the others. Only the owner of a
file writes numbers in it, so no update is lost. The kernel releases the lock on a file when its owner dies, so the others notice.
A request costs a few reads and writes of eight bytes for each running process.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

# A record: the tenant's name, then numbers of eight bytes: rows and bytes taken since the process began, the most that one
# request took of each, its requests in flight. A record is never reused for another tenant. Tenants for which there is
# no record left are counted by each process separately.
_NAME_BYTES = 64
_RECORD_BYTES = _NAME_BYTES + 40
_RECORDS = 32_768
ROWS, BYTES = 0, 1
_LARGEST, _IN_FLIGHT = 2, 4
# Before the records: their number. It is written last, so that a process that reads it finds complete records.
_HEAD_BYTES = 80
# Differs from the suffix of older versions, whose records have a different format.
_SUFFIX = ".use"
_FILE_BYTES = _HEAD_BYTES + _RECORDS * _RECORD_BYTES


@dataclass(slots=True)
class _PeerCounters:
    """A tenant's record in the file of another process, and how much of its rows and bytes is already accounted for."""

    numbers: memoryview[float]
    at: int
    seen: list[float]


class TenantCounters:
    """One tenant's record in this process, and its records in the other processes."""

    __slots__ = ("_at", "_numbers", "others")

    def __init__(self, numbers: memoryview[float], at: int) -> None:
        self._numbers = numbers
        self._at = at
        # By the inode of the other process's file.
        self.others: dict[int, _PeerCounters] = {}

    def take(self, what: int, amount: float) -> None:
        """Counts the ROWS or BYTES that one request took."""
        numbers, at = self._numbers, self._at + what
        # Written before the sum, so that a process that reads the sum also sees it.
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
        """ROWS or BYTES that others took since the last call, and the most that one of their requests took."""
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
    """The file of another process, and how far it has been read."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._map = mmap.mmap(self._descriptor, _FILE_BYTES, access=mmap.ACCESS_READ)
        self.numbers = memoryview(self._map).cast("d")
        # The position where each tenant's numbers begin.
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
        """Reads the tenants that were added since the last call. Returns their names."""
        found, count = [], int(self.numbers[0])
        for record in range(len(self.places), count):
            start = _HEAD_BYTES + record * _RECORD_BYTES
            name = self._map[start : start + _NAME_BYTES].rstrip(b"\0").decode()
            self.places[name] = (start + _NAME_BYTES) // 8
            found.append(name)
        return found

    def close(self) -> None:
        # The memory map is released with the last reference to its numbers.
        os.close(self._descriptor)


class SharedCounters:
    """This process's file, and the files of the other processes in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder can't be used."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        self._tenants: dict[str, TenantCounters] = {}
        self._files: dict[int, _PeerFile] = {}
        # Locked before it gets its name, so that no other process takes it for the file of a dead process.
        partial = self._path.with_suffix(".new")
        self._descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            # Allocate all of it now: if the disk had no room for a page written later, the kernel would kill the process.
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
        """The counters of a tenant; None if there is no room for one more."""
        found = self._tenants.get(tenant)
        if found is None and (count := len(self._tenants)) < _RECORDS:
            start = _HEAD_BYTES + count * _RECORD_BYTES
            name = tenant.encode()
            self._map[start : start + len(name)] = name
            found = self._tenants[tenant] = TenantCounters(self._numbers, (start + _NAME_BYTES) // 8)
            self._numbers[0] = count + 1.0
            for inode, file in self._files.items():
                if (at := file.places.get(tenant)) is not None:
                    # A bucket that begins now must not count what was taken before this tenant was known here.
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
            return  # it was removed meanwhile
        if file.orphaned:
            file.close()
            Path(path).unlink(missing_ok=True)  # no other process has this name
        else:
            self._files[inode] = file

    def close(self) -> None:
        """Removes this process's counts."""
        self._path.unlink(missing_ok=True)
        for file in self._files.values():
            file.close()
        os.close(self._descriptor)
