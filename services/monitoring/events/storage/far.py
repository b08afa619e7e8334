"""Closed segments on object storage: written to the folder, then moved by `upload`. Other threads may call it and `survey`."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from pyarrow import fs

from headrace.state.files import sealed_before
from headrace.state.files.claims import claimed
from services.monitoring.events.settings import EventStorage
from services.monitoring.events.storage.closed import AwayError, ClosedSegments
from services.monitoring.events.storage.files import ASIDE, ASIDE_SUFFIX, SEGMENTS, SUFFIX
from services.monitoring.events.storage.place import Place, place_of
from services.monitoring.events.storage.segments import holds_request

T = TypeVar("T")
# After a failure nobody asks again for so long: queries and the reception share a thread.
_PAUSE_S = 5.0
_CONNECT_S, _REQUEST_S, _ATTEMPTS = 2.0, 10.0, 2
_KIND = re.compile(r"AWS Error ([A-Z_]+)")


class FarSegments(ClosedSegments):
    """Closed segments in a folder until they are under `place`. Who uploads or removes one holds its local file's lock, so that
    several processes may share the folder, and what was removed does not come back. Methods raise AwayError beside the others'.
    `clock`: monotonic seconds."""

    all_local = False

    def __init__(
        self,
        folder: Path,
        aside: Path,
        place: Place,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(folder, aside)
        self._root = place.path
        self._clock = clock
        self._resting = (0.0, "")
        self._far = fs.S3FileSystem(
            endpoint_override=place.endpoint or None,
            scheme=place.scheme,
            region=place.region or None,
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
            background_writes=False,
            # One request for a small segment.
            allow_delayed_open=True,
        )

    def names(self) -> set[str]:
        # In this order: one that moves in between is seen twice, not never.
        return self.local_names() | self._reach(self._far_names)

    def settle(self, name: str) -> None:
        self._upload(name, wait=True)

    def upload(self, name: str) -> bool:
        """Moves one from the folder; False: it is not there any more, or another process is at work on it."""
        return self._upload(name, wait=False)

    def remove(self, name: str) -> None:
        with claimed(self.folder / name, wait=True):
            (self.folder / name).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                self._reach(lambda: self._far.delete_file(self._at(name)))

    def holds_request(self, name: str, request_id: str) -> bool:
        with suppress(FileNotFoundError):
            return super()._from(name, lambda source: holds_request(source, request_id))
        # To know it, it would be fetched as a whole, as it is when it is read.
        return True

    def set_aside(self, name: str) -> None:
        with suppress(FileNotFoundError):
            super().set_aside(name)
            return
        self._reach(lambda: self._far.move(self._at(name), self._at(f"unreadable/{name}{ASIDE_SUFFIX}")))

    def _from(self, name: str, read: Callable[[Path | pa.NativeFile], T]) -> T:
        with suppress(FileNotFoundError):
            return super()._from(name, read)
        # Fetched as a whole: what fails behind it is damage, and not the network's fault.
        content = self._reach(lambda: self._fetched(name))
        if content.slice(0, len(sealed_before.MAGIC)).to_pybytes() == sealed_before.MAGIC:
            # Not damaged, so it is not set aside.
            raise OSError(errno.EINVAL, "a segment was sealed by an earlier version of headrace")
        return read(pa.BufferReader(content))

    def _fetched(self, name: str) -> pa.Buffer:
        with self._far.open_input_file(self._at(name)) as file:
            return file.read_buffer()

    def _far_names(self) -> set[str]:
        try:
            found = self._far.get_file_info(fs.FileSelector(self._root))
        except FileNotFoundError:
            bucket = self._root.partition("/")[0]
            if self._far.get_file_info(bucket).type is fs.FileType.NotFound:
                raise OSError("AWS Error NO_SUCH_BUCKET") from None
            return set()
        return {f.base_name for f in found if f.is_file and f.base_name.endswith(SUFFIX)}

    def _upload(self, name: str, *, wait: bool) -> bool:
        with claimed(self.folder / name, wait=wait) as there:
            if not there:
                return False
            path = self.folder / name
            content = path.read_bytes()
            self._reach(lambda: self._put(name, content))
            path.unlink(missing_ok=True)
            return True

    def _put(self, name: str, content: bytes) -> None:
        with self._far.open_output_stream(self._at(name)) as stream:
            stream.write(content)
        if self._far.get_file_info(self._at(name)).size != len(content):
            raise OSError("AWS Error INCOMPLETE_UPLOAD")

    def _reach(self, what: Callable[[], T]) -> T:
        """Raises AwayError, FileNotFoundError."""
        until, why = self._resting
        if self._clock() < until:
            raise AwayError(why)
        try:
            return what()
        except FileNotFoundError:
            raise
        except OSError as error:
            kind = _KIND.search(str(error))
            why = kind[1].lower().replace("_", " ") if kind else "it failed"
            self._resting = (self._clock() + _PAUSE_S, why)
            raise AwayError(why) from None

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def far_segments(settings: EventStorage, clock: Callable[[], float]) -> FarSegments | None:
    """Those that the settings name; None: segments stay in their folder."""
    if settings.folder is None or settings.segments is None:
        return None
    folders = settings.folder / SEGMENTS, settings.folder / ASIDE
    return FarSegments(*folders, place_of(settings.segments), clock)
