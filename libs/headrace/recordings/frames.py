"""The frames of a recording file: eight bytes that name the format, then for each frame its length and its CRC-32 (both uint32,
little-endian), and its bytes. In a sealed file the header of an envelope is in the place of the eight bytes, and the bytes of a
frame are a part of a chain (`headrace.encryption.chain`).

A process that is killed leaves a frame unfinished at the end, which the reader leaves out; all else that does not fit is an
error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from headrace.encryption import DamagedError, LockedError, Sealer, is_sealed
from headrace.encryption.chain import OpenedChain, SealedChain
from headrace.encryption.envelope import MAGIC as ENVELOPE_MAGIC
from headrace.encryption.envelope import TAG_BYTES, read_header
from headrace.encryption.kms import NONCE_BYTES

MAGIC = b"HRRECv1\n"
_HEAD = struct.Struct("<II")
# Far above what a router answers in one batch; a damaged length must not make a reader allocate gigabytes.
MAX_FRAME_BYTES = 256 * 1024 * 1024
# Of a sealed file that is killed while its header is written, which is shorter than this, nothing is missed.
_BEGUN_BYTES = 1024
_HEADER_BYTES = 1 << 17


class RecordingError(Exception):
    """A file is no recording, or is damaged. The text names the file and the place."""


def frame(content: bytes) -> bytes:
    """The bytes of one frame. Raises ValueError for more than 256 MiB."""
    if len(content) > MAX_FRAME_BYTES:
        raise ValueError(f"a frame has at most {MAX_FRAME_BYTES} bytes, not {len(content)}")
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


class Frames:
    """The frames of one file that grows: plain, or sealed by `sealer`. `kind`: what the file is; it is read as nothing else."""

    def __init__(self, sealer: Sealer | None, kind: str) -> None:
        """Raises KeysAwayError."""
        self._sealer = sealer
        self._chain = SealedChain(sealer, kind) if sealer is not None else None
        # What the file begins with.
        self.beginning = MAGIC if self._chain is None else self._chain.header
        # Bytes that a frame has beside its content.
        self.overhead = _HEAD.size if self._chain is None else _HEAD.size + NONCE_BYTES + TAG_BYTES

    def frame(self, content: bytes) -> bytes:
        """The bytes of the next frame. Raises ValueError for more than 256 MiB."""
        return frame(content if self._chain is None else self._chain.seal(content))

    def kept(self, written: bytes) -> None:
        """The frame is in the file. One that can't be written is left out, and cut off."""
        if self._chain is not None:
            self._chain.kept(written)

    def is_old(self) -> bool:
        """Whether the data key is not in use any more, so that another file should be begun. Raises KeysAwayError."""
        if self._sealer is None or self._chain is None:
            return False
        return self._sealer.keys.current().wrapped != self._chain.wrapped


def read_frames(path: Path, sealer: Sealer | None = None, kind: str = "") -> Iterator[bytes]:
    """The content of each complete frame of a file. `sealer`, `kind`: for files that are sealed.

    Raises RecordingError for what is no recording or damaged; LockedError: it can't be opened with the keys that are here;
    KeysAwayError, OSError."""
    with path.open("rb") as file:
        chain: OpenedChain | None = None
        beginning = file.read(len(MAGIC))
        if is_sealed(beginning):
            try:
                chain = _opened(file, beginning, sealer, kind)
            except DamagedError as error:
                raise RecordingError(f"{path} is damaged: {error}") from None
            if chain is None:
                return
        elif beginning != MAGIC:
            if MAGIC.startswith(beginning) or ENVELOPE_MAGIC.startswith(beginning):
                return  # killed before anything was written
            raise RecordingError(f"{path} is no recording of a router: it does not begin as one")
        for place, content in _frames(path, file):
            # A machine that loses its power may leave zeros at the end.
            if chain is not None and not content and not any(file.read()):
                return
            try:
                yield content if chain is None else chain.open(content)
            except DamagedError as error:
                raise RecordingError(f"{path} is damaged at byte {place}: {error}") from None


def _opened(file: BinaryIO, beginning: bytes, sealer: Sealer | None, kind: str) -> OpenedChain | None:
    """The chain of a sealed file, which is then read up to its first frame; None: there is nothing but a part of its header."""
    beginning += file.read(_HEADER_BYTES)
    try:
        _, end = read_header(beginning)
    except DamagedError:
        if len(beginning) < _BEGUN_BYTES:
            return None
        raise
    if sealer is None:
        raise LockedError("it is sealed, and no keys are set here (`encryption`)")
    file.seek(end)
    return OpenedChain(sealer, beginning[:end], kind)


def _frames(path: Path, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Where each complete frame is, and its content."""
    place = file.tell()
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, checksum = _HEAD.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise RecordingError(f"{path} is damaged at byte {place}: a frame of {length} bytes")
        content = file.read(length)
        if len(content) < length:
            return
        if zlib.crc32(content) != checksum:
            raise RecordingError(f"{path} is damaged at byte {place}: the checksum of a frame is wrong")
        yield place, content
        place += _HEAD.size + length
