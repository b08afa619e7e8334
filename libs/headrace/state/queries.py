"""The distinct queries of a tenant to a pipeline in one day: an exact set of 64-bit hashes in a file.

Every process of the machine maps the file into memory, so all share one set, and a restarted process continues with it. The
kernel writes it to the disk in the background: a crash of the machine may lose the last half minute. There is no lock: two
processes that write the same slot at the same moment lose one hash, which then may be counted again.

The file is an open-addressing hash table of unsigned 64-bit numbers: a header of eight (the first: the count of hashes), then
the slots, a power of two of them; 0 marks a free slot.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_WORD = 8
_HEADER = 8
_SUFFIX = ".seen"
_MIN_SLOTS = 1024
_BLOCK = 65_536


def slots_for(budget: int) -> int:
    """The number of slots of a table for `budget` hashes: at most half of them are used."""
    return max(1 << (2 * budget - 1).bit_length(), _MIN_SLOTS)


class QueryTable:
    """The set, in a memory-mapped file or in this process's memory."""

    __slots__ = ("_map", "_mask", "_words")

    def __init__(self, mapped: mmap.mmap, slots: int) -> None:
        self._map = mapped
        self._words = memoryview(mapped).cast("Q")
        self._mask = slots - 1

    @classmethod
    def in_memory(cls, slots: int) -> QueryTable:
        return cls(mmap.mmap(-1, (_HEADER + slots) * _WORD), slots)

    @classmethod
    def open(cls, path: Path, slots: int) -> QueryTable:
        """The table in the file `path`, created if it is not there. Raises OSError."""
        size = (_HEADER + slots) * _WORD
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                _make(path, size)
                continue
            try:
                if os.fstat(descriptor).st_size == size:
                    table = cls(mmap.mmap(descriptor, size), slots)
                    table._words[0] = table._counted()
                    return table
            finally:
                os.close(descriptor)
            path.unlink(missing_ok=True)  # truncated by a crash of the machine

    @property
    def count(self) -> int:
        """The number of hashes in the set."""
        return self._words[0]

    def new(self, hashes: Iterable[int]) -> dict[int, int]:
        """The hashes that are not in the set, each once, with the free slot where it would go."""
        words, mask = self._words, self._mask
        found: dict[int, int] = {}
        for value in hashes:
            at = value & mask
            while word := words[_HEADER + at]:
                if word == value:
                    break
                at = (at + 1) & mask
            else:
                found[value] = at
        return found

    def add(self, hashes: Iterable[int]) -> None:
        """Adds the hashes that are not in the set; none may be 0. Stops when three quarters of the slots are used: that is more
        than any budget, and a search in a full table would not end."""
        words, most = self._words, self._mask * 3 // 4
        for value in hashes:
            if words[0] > most:
                return
            # One by one: each changes the slot where the next would go.
            for slot in self.new((value,)).values():
                words[_HEADER + slot] = value
                words[0] += 1

    def hashes(self) -> Iterator[int]:
        """All hashes of the set."""
        return (word for block in self._blocks() for word in block if word)

    def _counted(self) -> int:
        # The count in the header may be too low by one where two processes added at the same moment.
        return sum(len(block) - block.count(0) for block in self._blocks())

    def _blocks(self) -> Iterator[list[int]]:
        words = self._words
        return (words[at : at + _BLOCK].tolist() for at in range(_HEADER, len(words), _BLOCK))


def _make(path: Path, size: int) -> None:
    """Creates an empty table of `size` bytes; no process sees it half made. Raises OSError, and then leaves no file."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Allocate the whole file now: if the disk is full at a later write to a page, the kernel kills the process.
        os.posix_fallocate(descriptor, 0, size)
        os.link(partial, path)  # if several processes create it, the file system decides which is first
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Use:
    """How many distinct queries a tenant made to a pipeline on one day."""

    tenant: str
    pipeline: str
    count: int


def file_of(folder: Path, day: str, tenant: str, pipeline: str, slots: int) -> Path:
    """The path of the table of one day (YYYYMMDD), a tenant and a pipeline."""
    return folder / f"{day}@{tenant}@{pipeline}@{slots}{_SUFFIX}"


def files_of(folder: Path, day: str, tenant: str, pipeline: str) -> list[tuple[Path, int]]:
    """All tables of a tenant and a pipeline on one day, with their numbers of slots: one for each size that the budget had."""
    return [
        (path, int(path.stem.rpartition("@")[2]))
        for path in sorted(folder.glob(f"{day}@{tenant}@{pipeline}@*{_SUFFIX}"))
    ]


def remove_others(folder: Path, day: str) -> None:
    """Removes the tables of all other days."""
    for path in folder.glob(f"*{_SUFFIX}"):
        if not path.name.startswith(f"{day}@"):
            path.unlink(missing_ok=True)


def used(folder: Path, day: str) -> list[Use]:
    """The use of one day so far, one entry for each tenant and pipeline."""
    most: dict[tuple[str, str], int] = {}
    for path in sorted(folder.glob(f"{day}@*{_SUFFIX}")):
        _, tenant, pipeline, _ = path.name.split("@")
        with path.open("rb") as file:
            count = int.from_bytes(file.read(_WORD), "little")
        most[tenant, pipeline] = max(count, most.get((tenant, pipeline), 0))
    return [Use(tenant, pipeline, count) for (tenant, pipeline), count in most.items()]
