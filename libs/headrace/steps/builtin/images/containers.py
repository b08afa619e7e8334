"""Reads the header of a JPEG, PNG or WebP file without decoding it, and checks that the file is complete and nothing else.

Every length is followed to the end of the file. A file that ends early (a truncated upload) or, unless that is allowed,
goes on after its end (an image for one reader, a program for another) is refused before a decoder sees it. So are
animations: people would see frames that the model did not see.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.hop.errors import Reason

Format = Literal["JPEG", "PNG", "WEBP"]
FORMATS: tuple[Format, ...] = ("JPEG", "PNG", "WEBP")

# Real files have a few hundred; each costs one turn of the loop.
_MAX_PARTS = 16_384
# Progressive files have about ten; for each, the decoder goes over the whole image again.
_MAX_SCANS = 64

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
# In a JPEG's coded data: a marker that is no stuffed byte, no restart and no padding.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive: what usual software writes
_NO_FRAME = (0xC4, 0xC8, 0xCC)
_WEBP_ANIMATED = 0x02


class ImageError(ValueError):
    """An image is refused; the caller gets the text."""

    def __init__(self, message: str, reason: Reason = Reason.REASON_MALFORMED_REQUEST) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """Width and height in pixels, 1 or more; `end`: the length of the image in bytes."""

    format: Format
    width: int
    height: int
    end: int


Found = tuple[int, int, int]  # width, height, end


def examine(data: bytes, *, alone: bool = True) -> Header:
    """The header of a complete file. `alone`: nothing may follow the image. Raises ImageError."""
    form = _format(data)
    try:
        width, height, end = _READERS[form](data)
    except (struct.error, IndexError):
        raise ImageError(f"the {form} file ends too early") from None
    if alone and end != len(data):
        raise ImageError(f"the {form} file goes on for {len(data) - end} bytes after its end; cut them off")
    if width < 1 or height < 1:
        raise ImageError(f"the {form} file says that it has {width} × {height} pixels")
    return Header(form, width, height, end)


def _format(data: bytes) -> Format:
    if data.startswith(_JPEG):
        return "JPEG"
    if data.startswith(_PNG):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise ImageError("is no JPEG, PNG or WebP file", Reason.REASON_INPUT_DTYPE)


def _png(data: bytes) -> Found:
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if kind != b"IHDR" or length != 13:
        raise ImageError("the PNG file does not begin with its header")
    at, seen_data = 8, False
    for _ in range(_MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise ImageError("the PNG file ends too early")
        if kind == b"IEND":
            _complete("PNG", seen_data and length == 0)
            return width, height, at
        if kind == b"acTL":
            raise ImageError("the PNG file is animated; send its frames one by one")
        seen_data |= kind == b"IDAT"
        # An upper-case first letter marks a chunk that a reader must know.
        if not kind[0] & 0x20 and kind not in (b"IHDR", b"PLTE", b"IDAT"):
            raise ImageError("the PNG file has parts that no decoder here knows")
    raise ImageError("the PNG file has too many parts")


def _jpeg(data: bytes) -> Found:
    size, at, scans = (0, 0), 2, 0
    for _ in range(_MAX_PARTS):
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise ImageError("the JPEG file has bytes where a marker should be")
        marker = data[at + 1]
        at += 2
        if marker == 0xD9:
            _complete("JPEG", scans > 0)
            return *size, at
        if marker < 0xC0 or 0xD0 <= marker <= 0xD8:
            raise ImageError("the JPEG file has a marker in the wrong place")
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise ImageError("the JPEG file ends too early")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            size = _jpeg_frame(data, at, marker, size)
        at += length
        if marker == 0xDA:
            scans += 1
            at = _after_scan(data, at, scans, size)
    raise ImageError("the JPEG file has too many parts")


def _jpeg_frame(data: bytes, at: int, marker: int, before: tuple[int, int]) -> tuple[int, int]:
    if marker not in _FRAMES or before != (0, 0):
        raise ImageError("the JPEG file is of a kind that is not taken (lossless, arithmetic or layered)")
    height, width = struct.unpack_from(">HH", data, at + 3)
    return width, height


def _after_scan(data: bytes, at: int, scans: int, size: tuple[int, int]) -> int:
    if scans > _MAX_SCANS or size == (0, 0):
        raise ImageError("the JPEG file has too many scans, or one before its header")
    found = _NEXT_MARKER.search(data, at)
    if found is None:
        raise ImageError("the JPEG file ends too early")
    return found.start()


def _webp(data: bytes) -> Found:
    end = struct.unpack_from("<I", data, 4)[0] + 8
    if end > len(data):
        raise ImageError("the WEBP file ends too early")
    at, canvas, frame = 12, None, None
    for _ in range(_MAX_PARTS):
        if at >= end:
            break
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8
        if at + length + length % 2 > end:
            raise ImageError("the WEBP file ends too early")
        if kind == b"VP8X":
            canvas = _webp_canvas(data, at)
        elif kind in (b"VP8 ", b"VP8L"):
            if frame is not None:
                raise ImageError("the WEBP file has more than one picture")
            frame = _webp_frame(data, at, kind)
        elif kind in (b"ANIM", b"ANMF"):
            raise ImageError("the WEBP file is animated; send its frames one by one")
        at += length + length % 2
    if at != end or frame is None:
        raise ImageError("the WEBP file has no picture, or too many parts")
    if canvas not in (None, frame):
        raise ImageError("the WEBP file says two different sizes")
    return *frame, end


def _webp_canvas(data: bytes, at: int) -> tuple[int, int]:
    if data[at] & _WEBP_ANIMATED:
        raise ImageError("the WEBP file is animated; send its frames one by one")
    return (
        1 + int.from_bytes(data[at + 4 : at + 7], "little"),
        1 + int.from_bytes(data[at + 7 : at + 10], "little"),
    )


def _webp_frame(data: bytes, at: int, kind: bytes) -> tuple[int, int]:
    if kind == b"VP8 ":
        if data[at + 3 : at + 6] != b"\x9d\x01\x2a":
            raise ImageError("the WEBP file's picture does not begin with its header")
        width, height = struct.unpack_from("<HH", data, at + 6)
        return width & 0x3FFF, height & 0x3FFF
    signature, bits = struct.unpack_from("<BI", data, at)
    if signature != 0x2F:
        raise ImageError("the WEBP file's picture does not begin with its header")
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


def _complete(form: Format, complete: bool) -> None:
    if not complete:
        raise ImageError(f"the {form} file ends before its picture")


_READERS: Mapping[Format, Callable[[bytes], Found]] = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}
