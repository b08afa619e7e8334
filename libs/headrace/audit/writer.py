"""Appends entries to a log, and signs checkpoints of it. One process at a time: the lock of the folder says which.

What is written comes in the order entries, hash tiles, checkpoint, each made durable (fsync) before the next. So a writer that is
killed anywhere leaves a log whose checkpoint holds; entries after it that are on the disk are found and taken up by the next
writer. Each file is replaced in one step, and no file that a checkpoint needs is ever changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from headrace.audit.notes import Checkpoint, NoteError, Signer, opened, sign
from headrace.audit.tiles import CHECKPOINT, TileError, TileFiles, decode_bundle, encode_bundle, tile_path
from headrace.audit.tree import TILE_HEIGHT, WIDTH, Edge, leaf_hash
from headrace.state import atomic

_LOCK = ".lock"
Write = Callable[[Path, bytes], None]


class LogError(Exception):
    """The log can't be written; the text says why, and what to do."""


class LogBusyError(LogError):
    """Another process writes it."""


class Writer:
    """Appends to the log in `folder`, which it makes if there is none. Not for several threads at a time.

    `write`: replaces a file in one step, durably. Raises LogBusyError, LogError: what is there does not hold; OSError.
    """

    def __init__(self, folder: Path, signer: Signer, write: Write = atomic.write) -> None:
        self.folder = folder
        self._signer = signer
        self._write = write
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Entries of the bundle that is not full yet, and full tiles that wait for the next checkpoint, by path.
        self._open: list[bytes] = []
        self._full: dict[str, list[bytes]] = {}
        self._lock = _locked(folder)
        try:
            self.checkpoint = self._read_checkpoint()
            self._edge = self._recover()
            self._take_up()
        except BaseException:
            os.close(self._lock)
            raise

    @property
    def size(self) -> int:
        """Number of entries that are on the disk."""
        return self._edge.size

    @property
    def uncovered(self) -> int:
        """Number of them that no checkpoint covers yet."""
        return self._edge.size - self.checkpoint.size

    def append(self, entries: Sequence[bytes]) -> int:
        """Appends entries and returns the index of the first; they are on the disk once this returns.

        Raises ValueError: one is too long, nothing was written; OSError: those below `size` are on the disk, the others are not.
        """
        encode_bundle(entries)  # refuses before anything is written
        first, left = self.size, list(entries)
        while left:
            taken, left = left[: WIDTH - len(self._open)], left[WIDTH - len(self._open) :]
            bundle = [*self._open, *taken]
            self._put(tile_path(None, self.size // WIDTH, len(bundle)), encode_bundle(bundle))
            self._open = bundle if len(bundle) < WIDTH else []
            self._add(taken)
        return first

    def publish(self) -> Checkpoint:
        """Writes the hash tiles, then a checkpoint of all entries. Raises OSError: the checkpoint is still the one before."""
        if self.uncovered:
            for path, hashes in list(self._full.items()):
                self._put(path, b"".join(hashes))
            for path, hashes in _partial(self._edge):
                self._put(path, b"".join(hashes))
            checkpoint = Checkpoint(self._signer.name, self.size, self._edge.root())
            self._put(CHECKPOINT, sign(checkpoint, self._signer))
            before, self.checkpoint = self.checkpoint, checkpoint
            full, self._full = self._full, {}
            # What is left over does no harm, and the next one may remove it.
            with suppress(OSError):
                self._tidy(before, list(full))
        return self.checkpoint

    def close(self) -> None:
        """Gives the lock back. What has no checkpoint yet gets it from the next writer."""
        os.close(self._lock)

    def _add(self, entries: Sequence[bytes]) -> None:
        for entry in entries:
            for level, index, hashes in self._edge.add(leaf_hash(entry)):
                self._full[tile_path(level, index)] = hashes

    def _put(self, path: str, content: bytes) -> None:
        file = self.folder / path
        _make_folder(file.parent)
        self._write(file, content)

    def _recover(self) -> Edge:
        """The tree of the checkpoint, if its tiles and last entries are those. Raises LogError."""
        tiles = TileFiles(self.folder, self.checkpoint.size)
        try:
            edge = _edge(tiles)
            self._open = tiles.bundle(tiles.size // WIDTH) if tiles.size % WIDTH else []
        except TileError as error:
            raise self._damaged(str(error)) from error
        if edge.root() != self.checkpoint.root:
            raise self._damaged("its tiles are not those of its checkpoint")
        if edge.levels and [leaf_hash(e) for e in self._open] != edge.levels[0]:
            raise self._damaged("its last entries are not those of its tiles")
        return edge

    def _take_up(self) -> None:
        """Takes up entries after the checkpoint: the last writer was killed."""
        while found := self._past():
            self._add(found[len(self._open) :])
            self._open = found if len(found) < WIDTH else []
            if self._open:
                break
        self.publish()

    def _damaged(self, what: str) -> LogError:
        return LogError(f"the audit log {self.folder} is damaged: {what}; {_REMEDY}")

    def _read_checkpoint(self) -> Checkpoint:
        try:
            content = (self.folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            if (self.folder / "tile").exists():
                raise LogError(
                    f"the audit log {self.folder} has tiles and no checkpoint; {_REMEDY}"
                ) from None
            # Before the first entry, so that a log without a checkpoint is always one that lost it.
            empty = Checkpoint(self._signer.name, 0, Edge().root())
            self._put(CHECKPOINT, sign(empty, self._signer))
            return empty
        try:
            return opened(content, self._signer.verifier)[0]
        except NoteError as error:
            raise LogError(f"{self.folder / CHECKPOINT}: {error}; {_REMEDY}") from error

    def _past(self) -> list[bytes]:
        """The bundle in which the next entry would be, if it is on the disk with more entries than are known."""
        index = self.size // WIDTH
        folder = self.folder / tile_path(None, index, 1)
        widths = [WIDTH] if (self.folder / tile_path(None, index)).exists() else []
        with suppress(FileNotFoundError):
            widths += sorted(
                (int(p.name) for p in folder.parent.iterdir() if p.name.isdecimal()), reverse=True
            )
        if not widths or widths[0] <= len(self._open):
            return []
        name = tile_path(None, index, widths[0])
        try:
            found = decode_bundle((self.folder / name).read_bytes(), name)
        except TileError as error:
            raise self._damaged(str(error)) from error
        if len(found) != widths[0] or found[: len(self._open)] != self._open:
            raise self._damaged(f"{name} does not go on from its entries")
        return found

    def _tidy(self, before: Checkpoint, full: Sequence[str]) -> None:
        """Removes partial tiles where the full one is there now, and partial bundles that no checkpoint needs."""
        for path in full:
            shutil.rmtree(self.folder / f"{path}.p", ignore_errors=True)
        for index in range(before.size // WIDTH, self.size // WIDTH):
            shutil.rmtree((self.folder / tile_path(None, index, 1)).parent, ignore_errors=True)
        kept = {before.size, self.size}
        index = self.size // WIDTH
        folder = (self.folder / tile_path(None, index, 1)).parent
        if not self.size % WIDTH or not folder.exists():
            return
        published = {p.name for p in (self.folder / tile_path(0, index, 1)).parent.iterdir()}
        for file in folder.iterdir():
            if file.name not in published and index * WIDTH + _number(file.name) not in kept:
                file.unlink()


_REMEDY = "`headrace audit verify` says where; put its folder aside as evidence, and a new log is begun"


def _locked(folder: Path) -> int:
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise LogBusyError(f"another process writes the audit log {folder}; one of them is enough") from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def is_written(folder: Path) -> bool:
    """Whether a process has the log open for writing now."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _edge(tiles: TileFiles) -> Edge:
    """The right edge of the tree, from its tiles. Raises TileError."""
    levels: list[list[bytes]] = []
    while count := tiles.size >> (TILE_HEIGHT * len(levels)):
        level = len(levels)
        levels.append(tiles.hashes(level, count // WIDTH) if count % WIDTH else [])
    return Edge(tiles.size, levels)


def _partial(edge: Edge) -> list[tuple[str, list[bytes]]]:
    """The tiles that are not full, by path."""
    found = []
    for level, hashes in enumerate(edge.levels):
        if hashes:
            index = edge.size >> (TILE_HEIGHT * (level + 1))
            found.append((tile_path(level, index, len(hashes)), hashes))
    return found


def _make_folder(folder: Path) -> None:
    """Makes it, so that it survives a crash of the machine."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)
        atomic.sync_folder(folder.parent)


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else 0
