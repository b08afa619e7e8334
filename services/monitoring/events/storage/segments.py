"""Segments: a stream of Arrow batches while it grows; when it is closed, a Parquet file, named by its times and its SHA-256."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.events import SEQUENCE, TIME_US, GroupHeader
from headrace.state import plain_files
from headrace.state.files.claims import claimed, new_claimed
from services.monitoring.events.storage.arrow import (
    EPOCH,
    REPLICA,
    REQUEST_ID,
    TENANT,
    header_of,
    repeated_columns,
    with_header_columns,
    without_header_columns,
)
from services.monitoring.events.storage.files import OPEN_SUFFIX, SUFFIX
from services.monitoring.events.storage.ranges import Ranges


class UnreadableError(Exception):
    """A segment is damaged, or is none. The text says why, without paths."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed segment as the index knows it. Times are in milliseconds since 1970, both ends included."""

    name: str
    pipeline: str
    revision: str
    arm: str
    first_ms: int
    last_ms: int
    rows: int
    bytes: int
    tenants: frozenset[str] = frozenset()
    # What of which stream is in it.
    received: dict[int, Ranges] = field(default_factory=dict, hash=False, compare=False)


class OpenSegment:
    """A file that grows. `began`: when it was opened, in the clock of its owner. Methods block and raise OSError."""

    def __init__(self, folder: Path, schema: pa.Schema, began: float) -> None:
        self.began = began
        self.rows = 0
        # Who starts and finds it without a lock knows that its writer has ended.
        descriptor, self.path = new_claimed(lambda: folder / f"{os.urandom(8).hex()}{OPEN_SUFFIX}")
        self._file: BinaryIO = os.fdopen(descriptor, "wb", buffering=0)
        self.size = 0
        try:
            self._add(schema.serialize(), sync=False)
        except OSError:
            self.discard()
            raise

    def append(self, batch: pa.RecordBatch, *, sync: bool) -> None:
        """Adds events. With `sync` they are on the disk when this returns. What fails leaves nothing behind."""
        try:
            self._add(batch.serialize(), sync=sync)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self.size)
            raise
        self.rows += batch.num_rows

    def release(self) -> None:
        """Closes the file; it stays."""
        self._file.close()

    def discard(self) -> None:
        """Removes the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _add(self, content: pa.Buffer, *, sync: bool) -> None:
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]
        if sync:
            os.fdatasync(self._file.fileno())
        self.size = os.fstat(self._file.fileno()).st_size


def orphans(folder: Path) -> Iterator[Path]:
    """Open segments whose writer has ended; each is locked while it is yielded."""
    for path in sorted(folder.glob(f"*{OPEN_SUFFIX}")):
        with claimed(path) as ours:
            if ours:
                yield path


def read_open(path: Path) -> pa.Table:
    """The events of a segment that is not closed, without what was not written as a whole. Raises UnreadableError, OSError."""
    with plain_files.opened(path), pa.memory_map(str(path)) as mapped:
        return _read_stream(mapped)


def _read_stream(source: pa.NativeFile) -> pa.Table:
    try:
        stream = pa.ipc.open_stream(source)
        header_of(stream.schema)
    except (pa.ArrowException, ValueError) as error:
        raise UnreadableError(f"it does not begin as one: {error}") from error
    batches: list[pa.RecordBatch] = []
    with suppress(pa.ArrowException, OSError):  # killed in the middle of a batch
        batches.extend(stream)
    # Copied, as the file will go.
    return pa.Table.from_batches(batches, stream.schema).combine_chunks()


def holds_request(source: Path | pa.NativeFile, request_id: str) -> bool:
    """Whether a closed segment has events of a request; it reads that one column. Raises as `read_closed`."""
    with _reading():
        ids = pq.read_table(source, columns=[REQUEST_ID], memory_map=False)[REQUEST_ID]
        return bool(pc.any(pc.equal(ids, request_id)).as_py())


def read_header(source: Path | pa.NativeFile) -> GroupHeader:
    """What the events of a closed segment have in common. Raises as `read_closed`."""
    with _reading():
        return header_of(pq.read_schema(source))


def read_described(source: Path | pa.NativeFile, name: str) -> tuple[Segment, str]:
    """What the index keeps of a closed segment, and its replica; it reads those columns. Raises as `read_closed`."""
    with _reading():
        size = source.stat().st_size if isinstance(source, Path) else source.size()
        table = pq.read_table(
            source,
            columns=[REPLICA, EPOCH, TENANT, SEQUENCE, TIME_US],
            page_checksum_verification=True,
            memory_map=False,
        )
        return described(table, digest_in(name), size), table[REPLICA][0].as_py()


def read_closed(source: Path | pa.NativeFile) -> pa.Table:
    """The events of a closed segment, as `read_open` gives them. Raises UnreadableError, FileNotFoundError, OSError."""
    with _reading():
        table = pq.read_table(source, page_checksum_verification=True, memory_map=False)
        header_of(table.schema)
        return without_header_columns(table)


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise UnreadableError(str(error)) from error
    except OSError as error:
        # Arrow tells damage so; an error of the disk has a number.
        if error.errno is None:
            raise UnreadableError(str(error)) from error
        raise


def write_closed(folder: Path, table: pa.Table) -> Segment:
    """Writes a table of at least one event as a closed segment: with its name it is complete. The same table gives the same name.

    Raises OSError.
    """
    part = folder / f".{os.urandom(8).hex()}.part"
    try:
        _write_parquet(table, part)
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        part.chmod(0o600)
        segment = described(table, digest, part.stat().st_size)
        part.rename(folder / segment.name)
        _sync_folder(folder)
    finally:
        part.unlink(missing_ok=True)
    return segment


def _write_parquet(table: pa.Table, where: Path) -> None:
    whole = with_header_columns(table)
    pq.write_table(
        whole,
        where,
        compression="zstd",
        use_dictionary=repeated_columns(whole),
        write_statistics=False,
        write_page_checksum=True,
    )


def described(table: pa.Table, digest: str, size: int) -> Segment:
    """What the index keeps of a table."""
    header = header_of(table.schema)
    span = pc.min_max(table[TIME_US]).as_py()
    first, last = span["min"] // 1000, span["max"] // 1000
    return Segment(
        f"{first:013d}-{last:013d}-{digest}{SUFFIX}",
        header.pipeline,
        header.revision,
        header.arm,
        first,
        last,
        table.num_rows,
        size,
        frozenset(pc.unique(table[TENANT]).to_pylist()),
        received_of(table),
    )


def received_of(table: pa.Table) -> dict[int, Ranges]:
    """Which numbers of which streams are in a table."""
    found: dict[int, Ranges] = {}
    epochs = table[EPOCH].to_numpy()
    numbers = table[SEQUENCE].to_numpy()
    for epoch in np.unique(epochs).tolist():
        ranges = found[epoch] = Ranges()
        ranges.add_all(np.sort(numbers[epochs == epoch]))
    return found


def digest_in(name: str) -> str:
    """The SHA-256 in the name of a segment."""
    return name.removesuffix(SUFFIX).rpartition("-")[2]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
