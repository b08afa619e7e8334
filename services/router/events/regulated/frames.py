"""The frames of a journal's file: eight bytes that name the format, then for each frame its length and its CRC-32 (both uint32,
little-endian), and its bytes.

A process that is killed leaves a frame unfinished at the end, which the reader leaves out; all else that does not fit is an
error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAGIC = b"HRRECv1\n"
_HEAD = struct.Struct("<II")
# Bytes that a frame has beside its content.
OVERHEAD = _HEAD.size
# Far above what a router answers in one batch; a damaged length must not make a reader allocate gigabytes.
MAX_FRAME_BYTES = 256 * 1024 * 1024


class JournalError(Exception):
    """A file is no journal, or is damaged. The text names the file and the place."""


def frame(content: bytes) -> bytes:
    """The bytes of one frame. Raises ValueError for more than 256 MiB."""
    if len(content) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame has at most {MAX_FRAME_BYTES} bytes, not {len(content)}")
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def read_frames(path: Path) -> Iterator[bytes]:
    """The content of each complete frame of a file. Raises JournalError for what is no journal or damaged; OSError."""
    with path.open("rb") as file:
        beginning = file.read(len(MAGIC))
        if beginning != MAGIC:
            if MAGIC.startswith(beginning):
                return  # killed before anything was written
            raise JournalError(f"{path} is no journal of a router: it does not begin as one")
        yield from _frames(path, file)


def _frames(path: Path, file: BinaryIO) -> Iterator[bytes]:
    place = file.tell()
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, checksum = _HEAD.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise JournalError(f"{path} is damaged at byte {place}: a frame of {length} bytes")
        content = file.read(length)
        if len(content) < length:
            return
        if zlib.crc32(content) != checksum:
            raise JournalError(f"{path} is damaged at byte {place}: the checksum of a frame is wrong")
        yield content
        place += _HEAD.size + length
