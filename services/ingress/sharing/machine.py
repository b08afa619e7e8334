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
from pathlib import Path

from headrace.state.tenants import QuotaSpec
from services.ingress.ports import Log
from services.ingress.sharing.share import Buckets, Share

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


class _PeerRecord:
    """A tenant's record in the file of another process, and how much of its rows and bytes is already accounted for."""

    __slots__ = ("at", "numbers", "seen")

    def __init__(self, file: _PeerFile, tenant: str, *, late: bool) -> None:
        """`late`: this process begins to count the tenant now, so that what was taken before is no concern of its buckets."""
        self.numbers, self.at = file.numbers, file.places[tenant]
        self.seen = list(self.numbers[self.at : self.at + 2]) if late else [0.0, 0.0]


class MachineShare:
    """A `Share`: one tenant's record in this process, and its records in the others."""

    __slots__ = ("_at", "_buckets", "_numbers", "peers")

    def __init__(
        self, numbers: memoryview[float], at: int, peers: dict[int, _PeerRecord], buckets: Buckets
    ) -> None:
        self._numbers, self._at = numbers, at
        self._buckets = buckets
        # By the inode of the other process's file.
        self.peers = peers

    def slots(self, limit: int) -> int:
        return limit - int(sum([peer.numbers[peer.at + _IN_FLIGHT] for peer in self.peers.values()]))

    def begin(self, in_flight: int) -> None:  # noqa: ARG002 - requests of an earlier share may be in the record, too
        self._numbers[self._at + _IN_FLIGHT] += 1.0

    def refuse(self) -> None:
        """No other door is concerned."""

    def end(self) -> None:
        self._numbers[self._at + _IN_FLIGHT] -= 1.0

    def update(self, now: float) -> None:
        if self.peers:
            self.look(now)

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

    def look(self, now: float) -> None:
        """Takes out of the buckets what others took since the last call."""
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


class MachineFiles:
    """This process's file, and the files of the other processes in `folder`."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder can't be used."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        self._places: dict[str, int] = {}
        self._shares: dict[str, MachineShare] = {}
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
        self._find()

    def share(self, tenant: str, buckets: Buckets) -> MachineShare | None:
        """None: there is no room for one more tenant."""
        at = self._places.get(tenant)
        if at is None:
            if (count := len(self._places)) >= _RECORDS:
                return None
            start = _HEAD_BYTES + count * _RECORD_BYTES
            name = tenant.encode()
            self._map[start : start + len(name)] = name
            at = self._places[tenant] = (start + _NAME_BYTES) // 8
            self._numbers[0] = count + 1.0
        peers = {i: _PeerRecord(f, tenant, late=True) for i, f in self._files.items() if tenant in f.places}
        made = self._shares[tenant] = MachineShare(self._numbers, at, peers, buckets)
        return made

    def look(self, now: float) -> None:
        """Finds processes that have started or ended, and what they took."""
        self._find()
        for share in self._shares.values():
            share.look(now)

    def keep_only(self, names: AbstractSet[str]) -> None:
        self._shares = {name: share for name, share in self._shares.items() if name in names}

    def _find(self) -> None:
        present = {e.inode(): e.path for e in os.scandir(self._path.parent) if self._is_anothers(e)}
        for inode in [i for i, file in self._files.items() if i not in present or file.orphaned]:
            self._files.pop(inode).close()
            for share in self._shares.values():
                share.peers.pop(inode, None)
        for inode in present.keys() - self._files.keys():
            self._add_peer(inode, present[inode])
        for inode, file in self._files.items():
            for tenant in file.read():
                if tenant in self._shares:
                    self._shares[tenant].peers[inode] = _PeerRecord(file, tenant, late=False)

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


class MachineSource:
    """A `Source`: the other processes of the machine, as soon as the folder can be used. `clock`: monotonic seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float], log: Log) -> None:
        self._folder = folder
        self._clock = clock
        self._log = log
        self._files: MachineFiles | None = None
        self._complained = False

    def share(self, tenant: str, limits: QuotaSpec, buckets: Buckets) -> Share | None:  # noqa: ARG002 - buckets have them
        return None if self._files is None else self._files.share(tenant, buckets)

    async def start(self) -> None:
        await self.look()

    async def look(self) -> bool:
        if self._files is not None:
            self._files.look(self._clock())
            return False
        try:
            self._files = MachineFiles(self._folder)
        except OSError as error:
            if not self._complained:
                self._complained = True
                self._log.error("quotas are counted by each process alone", error=str(error))
            return False
        if self._complained:
            self._log.info("quotas are counted together again")
        return True

    def keep_only(self, names: AbstractSet[str]) -> None:
        if self._files is not None:
            self._files.keep_only(names)

    async def close(self) -> None:
        if self._files is not None:
            self._files.close()
