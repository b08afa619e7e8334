"""Files of events: written, searched, written anew without some, checked. DuckDB finds, Arrow reads what was found."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import fs

from headrace.events import CODE, EVENT_ID, ROW, SEQUENCE, TIME_US
from services.monitoring.events.files.arrow import (
    REQUEST_ID,
    TENANT,
    TRACEPARENT,
    header_of,
    packed_header,
    repeated_columns,
    unpacked,
    with_header_columns,
    without_header_columns,
)
from services.monitoring.events.files.location import SUFFIX, Location
from services.monitoring.events.files.selection import POSITION, concerned, conditions
from services.monitoring.events.values import (
    Batch,
    ErasedEvent,
    Erasure,
    EventFile,
    FileDamagedError,
    Newest,
    Position,
    Problem,
    Query,
)

_COMMON = (CODE, TENANT, REQUEST_ID, TRACEPARENT, ROW, TIME_US, SEQUENCE, EVENT_ID)
# A few rows are read as a whole group of them.
_GROUP_ROWS = 32_768
# Files that are looked through at once, the newest first: if they have enough, the others are not opened.
_FIRST_FILES = 4


_URL = "events://"


def _by_kind(batches: Sequence[Batch]) -> list[pa.Table]:
    """The events of all with their headers as columns, a table for each kind: DuckDB takes long for many tables."""
    kinds: defaultdict[bytes, list[pa.Table]] = defaultdict(list)
    for batch in batches:
        table = unpacked(batch.content)
        kinds[table.schema.serialize().to_pybytes()].append(table)
    return [with_header_columns(pa.concat_tables(tables)) for tables in kinds.values()]


class _Bucket(ArrowFSWrapper):  # type: ignore[misc]  # fsspec has no types
    """How DuckDB reads from a bucket: as no extension of it is ever downloaded, by Arrow."""

    protocol = "events"

    def __init__(self, files: fs.FileSystem) -> None:
        super().__init__(files)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(_URL)


class EventFiles:
    """Methods block and raise OSError. `memory_bytes`: what DuckDB may use."""

    def __init__(self, location: Location, memory_bytes: int, threads: int) -> None:
        self._fs = location.file_system()
        self._root = location.root
        self._bucket = location.bucket
        self._db = duckdb.connect(
            config={
                "memory_limit": f"{memory_bytes}B",
                "threads": threads,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
            }
        )
        if location.bucket:
            self._db.register_filesystem(_Bucket(self._fs))
        directory = self._url("").replace("'", "''")
        self._db.execute(f"SET allowed_directories = ['{directory}']; SET enable_external_access = false")

    def write(self, path: str, batches: Sequence[Batch]) -> EventFile:
        """Makes a file of batches of one kind. The file is on the disk, or in the bucket, when this returns."""
        return self._write(
            path, pa.concat_tables([unpacked(batch.content) for batch in batches]).combine_chunks()
        )

    def newest(self, query: Query, files: Sequence[EventFile], batches: Sequence[Batch]) -> Newest:
        """The newest events that fit. `files`, `batches`: those that may hold such events."""
        problems: dict[str, str] = {}
        opened = [unpacked(batch.content) for batch in batches]
        while True:
            try:
                found = self._find(query, files, opened, problems)
                tables = [self._rows(source, numbers, opened) for source, numbers in _by_source(found)]
            except FileDamagedError as error:
                problems[error.path] = error.why
                continue
            places = [Position(row[0], row[1], bytes(row[2])) for row in found]
            return Newest(tables, places, [Problem(*problem) for problem in sorted(problems.items())])

    def concerned(self, who: Erasure, file: EventFile) -> list[ErasedEvent]:
        """The events in a file that an erasure names. Raises FileDamagedError."""
        names = [TENANT, REQUEST_ID, EVENT_ID, ROW, *(subject.column for subject in who.subjects)]
        with _reading(file.path):
            schema = pq.read_schema(self._at(file.path), filesystem=self._fs)
            names = [name for name in dict.fromkeys(names) if name in schema.names]
            table = self._read(file.path, names)
            gone = table.filter(concerned(table, who))
            found = (gone[name].to_pylist() for name in (EVENT_ID, REQUEST_ID, ROW))
            return list(map(ErasedEvent, *found))

    def rewrite(self, who: Erasure, file: EventFile, path: str) -> EventFile | None:
        """Writes what an erasure leaves of a file to `path`; None: nothing is left. Raises FileDamagedError."""
        with _reading(file.path):
            table = self._read(file.path)
            left = table.filter(pc.invert(concerned(table, who)))
        return self._write(path, without_header_columns(left)) if left.num_rows else None

    def remove(self, path: str) -> None:
        """If it is there."""
        with suppress(FileNotFoundError):
            self._fs.delete_file(self._at(path))

    def check(self, files: Sequence[EventFile]) -> list[Problem]:
        """Reads these files as a whole: which are not what was stored."""
        return [Problem(file.path, text) for file in files if (text := self._checked(file))]

    def listed(self) -> list[str]:
        """Paths of all files that are there."""
        found = self._fs.get_file_info(fs.FileSelector(self._root, recursive=True, allow_not_found=True))
        names = [f.path.removeprefix(self._root).lstrip("/") for f in found if f.is_file]
        return sorted(name for name in names if name.endswith(SUFFIX))

    def ask(
        self,
        sql: str,
        parameters: Sequence[object],
        files: Sequence[EventFile],
        batches: Sequence[Batch],
    ) -> tuple[pa.Table, list[Problem]]:
        """The answer to a question about the view `events`, which has the columns of all of these. `$name` columns are those that
        events have in common."""
        problems: dict[str, str] = {}
        opened = _by_kind(batches)
        while True:
            sound = self._sound(files, problems)
            for number, table in enumerate(opened):
                self._db.register(f"batch{number}", table)
            parts = [f"FROM batch{number}" for number in range(len(opened))]
            if sound:
                parts.insert(0, f"FROM read_parquet({self._urls(sound)}, union_by_name=true)")
            try:
                self._db.execute(f"CREATE OR REPLACE TEMP VIEW events AS {' UNION ALL BY NAME '.join(parts)}")
                answer = self._db.sql(sql, params=list(parameters)).to_arrow_table()
            except (duckdb.Error, OSError) as error:
                damaged = self._probed(sound)
                if not damaged:
                    raise RuntimeError(str(error)) from None  # our own SQL is wrong
                problems |= damaged
                continue
            finally:
                for number in range(len(opened)):
                    self._db.unregister(f"batch{number}")
            return answer, [Problem(*problem) for problem in sorted(problems.items())]

    def _write(self, path: str, table: pa.Table) -> EventFile:
        whole = with_header_columns(table)
        buffer = pa.BufferOutputStream()
        pq.write_table(
            whole,
            buffer,
            compression="zstd",
            use_dictionary=repeated_columns(whole),
            write_statistics=[TIME_US],
            write_page_checksum=True,
            row_group_size=_GROUP_ROWS,
            # By them DuckDB skips groups that do not have a request.
            bloom_filter_options={REQUEST_ID: {"ndv": min(whole.num_rows, _GROUP_ROWS), "fpp": 0.01}},
        )
        content = buffer.getvalue()
        self._write_content(path, content)
        span = pc.min_max(table[TIME_US]).as_py()
        header = header_of(table.schema)
        return EventFile(
            path,
            hashlib.sha256(content).hexdigest(),
            content.size,
            table.num_rows,
            header.pipeline,
            span["min"],
            span["max"],
            tuple(sorted(pc.unique(table[TENANT]).to_pylist())),
            packed_header(header).decode(),
        )

    def _write_content(self, path: str, content: pa.Buffer) -> None:
        where = self._at(path)
        if not self._bucket:
            self._fs.create_dir(where.rpartition("/")[0], recursive=True)
        with self._fs.open_output_stream(where) as stream:
            stream.write(content)
        if not self._bucket:
            _sync(where)
        if self._fs.get_file_info(where).size != content.size:
            raise OSError("AWS Error INCOMPLETE_UPLOAD")

    def _find(
        self, query: Query, files: Sequence[EventFile], opened: Sequence[pa.Table], problems: dict[str, str]
    ) -> list[Any]:
        """Time, sequence and id, source and row in it of the newest events that fit, the newest first. Source: path of a file, or
        the number of a batch. Files are opened only if they may have newer ones than what was found already."""
        files = sorted(files, key=lambda file: -file.last_us)
        found = self._search(query, [], opened)
        first, count = 0, len(files) if query.request_id or query.event_id else _FIRST_FILES
        while first < len(files):
            oldest = found[-1][0] if len(found) == query.limit else 0
            part = [file for file in files[first : first + count] if file.last_us >= oldest]
            found += self._search(query, self._sound(part, problems), [])
            found.sort(key=lambda row: row[:3], reverse=True)
            del found[query.limit :]
            first, count = first + count, count * 4
        return found

    def _search(self, query: Query, files: Sequence[EventFile], opened: Sequence[pa.Table]) -> list[Any]:
        names = ", ".join(f'"{name}"' for name in _COMMON)
        parts = []
        if files:
            urls = self._urls(files)
            parts.append(
                f"FROM read_parquet({urls}, filename=true, file_row_number=true) SELECT {names}, filename, file_row_number"
            )
        if opened:
            self._db.register("opened", pa.concat_tables(_numbered(i, t) for i, t in enumerate(opened)))
            parts.append(f"FROM opened SELECT {names}, filename, file_row_number")
        if not parts:
            return []
        where, parameters = conditions(query)
        order = ", ".join(f'"{name}" DESC' for name in POSITION)
        chosen = ", ".join(f'"{name}"' for name in POSITION)
        sql = (
            f"FROM ({' UNION ALL '.join(parts)}) SELECT {chosen}, filename, file_row_number"
            f" WHERE {where} ORDER BY {order} LIMIT {query.limit}"
        )
        try:
            rows = self._db.execute(sql, parameters).fetchall()
        except (duckdb.Error, OSError) as error:
            for path, text in self._probed(files).items():
                raise FileDamagedError(path, text) from None
            raise RuntimeError(str(error)) from None  # our own SQL is wrong
        prefix = len(self._url(""))
        return [(*row[:3], row[3][prefix:] if row[3][0] != "#" else int(row[3][1:]), row[4]) for row in rows]

    def _rows(self, source: str | int, numbers: list[int], opened: Sequence[pa.Table]) -> pa.Table:
        """These rows of a file or a batch, in this order. Raises FileDamagedError."""
        if isinstance(source, int):
            return opened[source].take(numbers)
        with _reading(source), self._fs.open_input_file(self._at(source)) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            groups = sorted({number // _GROUP_ROWS for number in numbers})
            table = parquet.read_row_groups(groups)
            offset = {group: i * _GROUP_ROWS for i, group in enumerate(groups)}
            table = table.take([offset[n // _GROUP_ROWS] + n % _GROUP_ROWS for n in numbers])
            return without_header_columns(table)

    def _read(self, path: str, columns: list[str] | None = None) -> pa.Table:
        with self._fs.open_input_file(self._at(path)) as file:
            return pq.ParquetFile(file, page_checksum_verification=True).read(columns)

    def _sound(self, files: Sequence[EventFile], problems: dict[str, str]) -> list[EventFile]:
        """Those that are there and have their size; the others are added to `problems`."""
        wanted = [file for file in files if file.path not in problems]
        if not wanted:
            return []
        found = self._fs.get_file_info([self._at(file.path) for file in wanted])
        for file, info in zip(wanted, found, strict=True):
            if not info.is_file:
                problems[file.path] = "it is not there"
            elif info.size != file.bytes:
                problems[file.path] = f"it has {info.size} bytes, {file.bytes} were stored"
        return [file for file in wanted if file.path not in problems]

    def _probed(self, files: Sequence[EventFile]) -> dict[str, str]:
        """Which of these can't be read, and why."""
        return {file.path: text for file in files if (text := self._checked(file))}

    def _checked(self, file: EventFile) -> str:
        """Empty: it is what was stored. Raises OSError if that can't be known."""
        try:
            with self._fs.open_input_stream(self._at(file.path)) as stream:
                content = stream.read()
        except FileNotFoundError:
            return "it is not there"
        if len(content) != file.bytes:
            return f"it has {len(content)} bytes, {file.bytes} were stored"
        same = hashlib.sha256(content).hexdigest() == file.sha256
        return "" if same else "its SHA-256 is not the one that was stored"

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _url(self, path: str) -> str:
        return _URL + self._at(path) if self._bucket else self._at(path)

    def _urls(self, files: Sequence[EventFile]) -> str:
        """As a list of SQL."""
        quoted = [self._url(file.path).replace("'", "''") for file in files]
        return "[" + ", ".join(f"'{url}'" for url in quoted) + "]"


def _numbered(number: int, table: pa.Table) -> pa.Table:
    """The common columns of a batch, with its number and that of each row."""
    count = table.num_rows
    part = table.select(list(_COMMON)).replace_schema_metadata()
    part = pa.Table.from_arrays(part.columns, names=part.column_names)
    part = part.append_column("filename", pa.repeat(f"#{number}", count))
    return part.append_column("file_row_number", pa.array(range(count), pa.int64()))


def _by_source(found: Sequence[Any]) -> list[tuple[str | int, list[int]]]:
    """Rows of each source, in their order."""
    rows: dict[str | int, list[int]] = {}
    for *_, source, number in found:
        rows.setdefault(source, []).append(number)
    return list(rows.items())


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Raises FileDamagedError for what Arrow says of a file's content."""
    try:
        yield
    except FileNotFoundError:
        raise FileDamagedError(path, "it is not there") from None
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise FileDamagedError(path, str(error)) from None
    except OSError as error:
        # Arrow tells damage so; an error of the disk has a number, one of a bucket its own words.
        if error.errno is None and "AWS Error" not in str(error):
            raise FileDamagedError(path, str(error)) from None
        raise


def _sync(path: str) -> None:
    """The file and its name are on the disk when this returns."""
    for one in (path, path.rpartition("/")[0]):
        descriptor = os.open(one, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
