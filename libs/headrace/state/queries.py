"""Which different questions a tenant has asked of a pipeline in one day: an exact set of 64-bit hashes in a file.

The file is mapped into memory by each process of the machine, so that all count in one set, and a process that begins
goes on where the last one stopped. The kernel writes it to the disk by and by: a crash of the machine may forget the last
half a minute. Nobody locks it: two processes that write the same place at the same moment lose one hash, which then may
be counted again.

A file is a head of eight numbers (the first: how many hashes there are), then a power of two of places, 0 for a free one.
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
_HEAD = 8
_SUFFIX = ".seen"
_MIN_PLACES = 1024
_BLOCK = 65_536


def places_for(budget: int) -> int:
    """Places of a table that holds `budget` hashes, at most half of them taken."""
    return max(1 << (2 * budget - 1).bit_length(), _MIN_PLACES)


class QueryTable:
    """The set, in a mapped file or, without one, in this process's memory."""

    __slots__ = ("_map", "_mask", "_words")

    def __init__(self, mapped: mmap.mmap, places: int) -> None:
        self._map = mapped
        self._words = memoryview(mapped).cast("Q")
        self._mask = places - 1

    @classmethod
    def in_memory(cls, places: int) -> QueryTable:
        return cls(mmap.mmap(-1, (_HEAD + places) * _WORD), places)

    @classmethod
    def open(cls, path: Path, places: int) -> QueryTable:
        """The table in the file `path`, made if need be. Raises OSError."""
        size = (_HEAD + places) * _WORD
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                _make(path, size)
                continue
            try:
                if os.fstat(descriptor).st_size == size:
                    table = cls(mmap.mmap(descriptor, size), places)
                    table._words[0] = table._counted()
                    return table
            finally:
                os.close(descriptor)
            path.unlink(missing_ok=True)  # cut off by a crash of the machine

    @property
    def count(self) -> int:
        """How many hashes there are."""
        return self._words[0]

    def new(self, hashes: Iterable[int]) -> dict[int, int]:
        """Those that are not there, each once, with the place where it would go."""
        words, mask = self._words, self._mask
        found: dict[int, int] = {}
        for value in hashes:
            at = value & mask
            while word := words[_HEAD + at]:
                if word == value:
                    break
                at = (at + 1) & mask
            else:
                found[value] = at
        return found

    def add(self, hashes: Iterable[int]) -> None:
        """Adds those that are not there. Hashes are not 0. What is beyond three quarters of the places is left out: that is
        more than any budget, and a full table could not be searched."""
        words, mask = self._words, self._mask
        for value in hashes:
            if words[0] > mask * 3 // 4:
                return
            at = value & mask
            while word := words[_HEAD + at]:
                if word == value:
                    break
                at = (at + 1) & mask
            else:
                words[_HEAD + at] = value
                words[0] += 1

    def hashes(self) -> Iterator[int]:
        """All of them."""
        return (word for block in self._blocks() for word in block if word)

    def _counted(self) -> int:
        # Counts that two processes made at the same moment may be one too few.
        return sum(len(block) - block.count(0) for block in self._blocks())

    def _blocks(self) -> Iterator[list[int]]:
        words = self._words
        return (words[at : at + _BLOCK].tolist() for at in range(_HEAD, len(words), _BLOCK))


def _make(path: Path, size: int) -> None:
    """Makes an empty file, whole from its first moment. Raises OSError, leaving nothing."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # All of it now: where the disk has no room for a page that is written later, the kernel ends the process.
        os.posix_fallocate(descriptor, 0, size)
        os.link(partial, path)  # which of several processes was first, the file system says
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Use:
    """What the files of one day say of a tenant and a pipeline."""

    tenant: str
    pipeline: str
    count: int


def file_of(folder: Path, day: str, tenant: str, pipeline: str, places: int) -> Path:
    """The file of one day (YYYYMMDD)."""
    return folder / f"{day}@{tenant}@{pipeline}@{places}{_SUFFIX}"


def files_of(folder: Path, day: str, tenant: str, pipeline: str) -> list[tuple[Path, int]]:
    """All files of a tenant and a pipeline on one day, with their places: as many as there were sizes of its budget."""
    return [
        (path, int(path.stem.rpartition("@")[2]))
        for path in sorted(folder.glob(f"{day}@{tenant}@{pipeline}@*{_SUFFIX}"))
    ]


def remove_others(folder: Path, day: str) -> None:
    """Removes the files of all other days."""
    for path in folder.glob(f"*{_SUFFIX}"):
        if not path.name.startswith(f"{day}@"):
            path.unlink(missing_ok=True)


def used(folder: Path, day: str) -> list[Use]:
    """What was asked on one day so far, by tenant and pipeline."""
    most: dict[tuple[str, str], int] = {}
    for path in sorted(folder.glob(f"{day}@*{_SUFFIX}")):
        _, tenant, pipeline, _ = path.name.split("@")
        with path.open("rb") as file:
            count = int.from_bytes(file.read(_WORD), "little")
        most[tenant, pipeline] = max(count, most.get((tenant, pipeline), 0))
    return [Use(tenant, pipeline, count) for (tenant, pipeline), count in most.items()]
