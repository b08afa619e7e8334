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
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.access.specs import QuotaSpec
from services.ingress.sharing.share import Buckets

# A record: the tenant's name, then numbers of eight bytes: rows and bytes taken since the process began, the most that one
# request took of each, its requests in flight. A record is never reused for another tenant. Tenants for which there is
# no record left are counted by each process separately.
_NAME_BYTES = 64
_RECORD_BYTES = _NAME_BYTES + 40
_RECORDS = 32_768
_LARGEST, _IN_FLIGHT = 2, 4
# Before the records: their number. It is written last, so that a process that reads it finds complete records.
_HEAD_BYTES = 80
# Differs from the suffix of older versions, whose records have a different format.
_SUFFIX = ".use"
_FILE_BYTES = _HEAD_BYTES + _RECORDS * _RECORD_BYTES


class _PeerFile:
    """The file of another process, and how far it has been read. Raises FileNotFoundError if it was removed meanwhile."""

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


@dataclass(slots=True)
class _PeerRecord:
    """A tenant's record in the file of another process, and how much of its rows and bytes is already accounted for."""

    numbers: memoryview[float]
    at: int
    seen: list[float]


class MachineShare:
    """A `Share`: one tenant's record in this process, and its records in the others."""

    def __init__(self, numbers: memoryview[float], at: int, buckets: Buckets) -> None:
        self._numbers, self._at = numbers, at
        self._buckets = buckets
        # By the inode of the other process's file.
        self.peers: dict[int, _PeerRecord] = {}

    def slots(self, limit: int) -> int:
        return limit - int(sum([peer.numbers[peer.at + _IN_FLIGHT] for peer in self.peers.values()]))

    def begin(self, in_flight: int) -> None:  # noqa: ARG002 - requests of an earlier share may be in the record, too
        self._numbers[self._at + _IN_FLIGHT] += 1.0

    def refuse(self) -> None:
        """No other door is concerned."""

    def end(self) -> None:
        self._numbers[self._at + _IN_FLIGHT] -= 1.0

    def lack(self, rows: int, size_bytes: int) -> None:
        """Only what is taken matters to the others."""

    def take(self, rows: int, size_bytes: int) -> None:
        numbers, at = self._numbers, self._at
        # Written before the sums, so that a process that reads a sum also sees it.
        if rows > numbers[at + _LARGEST]:
            numbers[at + _LARGEST] = rows
        if size_bytes > numbers[at + _LARGEST + 1]:
            numbers[at + _LARGEST + 1] = size_bytes
        numbers[at] += rows
        numbers[at + 1] += size_bytes

    def update(self, now: float) -> None:
        """Takes out of the buckets what others took since the last call."""
        if not self.peers:
            return
        for what, bucket in enumerate(self._buckets):
            if bucket is None:
                continue
            taken = largest = 0.0
            for peer in self.peers.values():
                at, seen = peer.at + what, peer.seen
                used = peer.numbers[at]
                taken += used - seen[what]
                seen[what] = used
                largest = max(largest, peer.numbers[at + _LARGEST])
            if taken:
                bucket.spent_elsewhere(now, taken, largest)


class MachineSource:
    """A `Source`: the files of all processes in `folder`, as soon as that can be used. `clock`: monotonic seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float], log: Any) -> None:
        self._folder = folder
        self._clock = clock
        self._log = log
        self._path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        self._complained = False
        self._descriptor: int | None = None
        self._map: mmap.mmap | None = None
        self._numbers = memoryview(b"").cast("d")
        # Where the numbers of each tenant begin; what of it this process counts now; the files of the others by inode.
        self._places: dict[str, int] = {}
        self._shares: dict[str, MachineShare] = {}
        self._files: dict[int, _PeerFile] = {}

    def share(self, tenant: str, limits: QuotaSpec, buckets: Buckets) -> MachineShare | None:  # noqa: ARG002 - buckets have them
        at = self._places.get(tenant)
        if at is None:
            count = len(self._places)
            if self._map is None or count >= _RECORDS:
                return None
            start = _HEAD_BYTES + count * _RECORD_BYTES
            name = tenant.encode()
            self._map[start : start + len(name)] = name
            at = self._places[tenant] = (start + _NAME_BYTES) // 8
            self._numbers[0] = count + 1.0
        made = self._shares[tenant] = MachineShare(self._numbers, at, buckets)
        for inode, file in self._files.items():
            if (there := file.places.get(tenant)) is not None:
                # What was taken before is no concern of buckets that begin now.
                made.peers[inode] = _PeerRecord(file.numbers, there, list(file.numbers[there : there + 2]))
        return made

    async def start(self) -> None:
        await self.refresh()

    async def refresh(self) -> bool:
        opened = self._map is None and self._opened()
        if self._map is not None:
            self._find()
            for share in self._shares.values():
                share.update(self._clock())
        return opened

    def keep_only(self, names: AbstractSet[str]) -> None:
        self._shares = {name: share for name, share in self._shares.items() if name in names}

    def _opened(self) -> bool:
        try:
            self._open()
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.error("quotas are counted by each process alone", error=str(error))
            return False
        if self._complained:
            self._log.info("quotas are counted together again")
        return True

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Locked before it gets its name, so that no other process takes it for the file of a dead process.
        partial = self._path.with_suffix(".new")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            # Allocate all of it now: if the disk had no room for a page written later, the kernel would kill the process.
            os.posix_fallocate(descriptor, 0, _FILE_BYTES)
        except OSError:
            partial.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        self._descriptor, self._map = descriptor, mmap.mmap(descriptor, _FILE_BYTES)
        self._numbers = memoryview(self._map).cast("d")
        partial.replace(self._path)

    def _find(self) -> None:
        """Finds processes that have started or ended, and tenants that they count now."""
        entries = [
            e for e in os.scandir(self._folder) if e.name.endswith(_SUFFIX) and e.name != self._path.name
        ]
        present = {e.inode(): e.path for e in entries}
        for inode in [i for i, file in self._files.items() if i not in present or file.orphaned]:
            self._files.pop(inode).close()
            for share in self._shares.values():
                share.peers.pop(inode, None)
        for inode in present.keys() - self._files.keys():
            self._add_peer(inode, present[inode])
        for inode, file in self._files.items():
            for tenant in file.read():
                if tenant in self._shares:
                    record = _PeerRecord(file.numbers, file.places[tenant], [0.0, 0.0])
                    self._shares[tenant].peers[inode] = record

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

    async def close(self) -> None:
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
        for file in self._files.values():
            file.close()
