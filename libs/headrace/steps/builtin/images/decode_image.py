"""The step that turns image files from untrusted callers into pixels, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from headrace.columns import DType
from headrace.hop.errors import Reason
from headrace.steps.builtin.images.containers import FORMATS, Format, ImageError, examine
from headrace.steps.builtin.images.decoder import Pixels, decode
from headrace.steps.frame import Frame
from headrace.steps.options import Options
from headrace.steps.step import OneColumn

# Beyond this, Pillow itself warns of decompression bombs; a pixel takes up to 12 bytes while it is decoded.
_MOST_PIXELS = 89_000_000
_MAX_SIDE = 16_383
_DEFAULT_PIXELS = 16_777_216
_DEFAULT_BYTES = 8 << 20
_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class DecodeImage(OneColumn):
    """`decode_image: {column, size: [height, width], crop?, channels?, recompress?, formats?, …, into?}`.

    Writes uint8 (rows, height, width, 3): the image resized to `size` (bilinear, proportions not kept), then cropped to the
    middle `crop`: [height, width]. `channels`: rgb or bgr. `formats`: some of jpeg, png, webp; all if not given.
    `recompress`: the crop is saved as a JPEG of this quality (1 to 95) and read again, for models trained on such images.

    A file fails its row before it is decoded if it is longer than `max_bytes` (8 MiB), claims more than `max_pixels`
    (16.8 million), has another format, is truncated or animated, or has bytes after its end. `after_end: ignore` cuts these
    bytes off: some phones append a video or a second image. Transparency is dropped.
    """

    size: tuple[int, int]
    crop: tuple[int, int]
    bgr: bool
    formats: tuple[Format, ...]
    max_bytes: int
    max_pixels: int
    alone: bool
    recompress: int
    made = DType.UINT8

    # An image takes milliseconds: never on the event loop.
    weight = 1 << 20

    @classmethod
    def read(cls, options: Options) -> DecodeImage:
        size = _sides(options, "size")
        crop = _sides(options, "crop") if "crop" in options else size
        if crop[0] > size[0] or crop[1] > size[1]:
            raise options.error("crop", "should not exceed 'size'")
        return cls(
            *options.target(),
            size,
            crop,
            options.choice("channels", ["rgb", "bgr"], "rgb") == "bgr",
            _formats(options) if "formats" in options else FORMATS,
            options.integer("max_bytes", _DEFAULT_BYTES, low=1, high=1 << 30),
            options.integer("max_pixels", _DEFAULT_PIXELS, low=1, high=_MOST_PIXELS),
            options.choice("after_end", ["refuse", "ignore"], "refuse") == "refuse",
            options.integer("recompress", 0, low=0, high=95),
        )

    def run(self, frame: Frame) -> None:
        files, valid = frame.texts(self.column)
        pixels = np.zeros((frame.rows, *self.crop, 3), np.uint8)
        rows = [row for row in range(frame.rows) if valid is None or valid[row]]

        def fill(row: int) -> ImageError | None:
            try:
                pixels[row] = self._decoded(files[row])
            except ImageError as error:
                return error
            return None

        for row, error in zip(rows, _each(fill, rows), strict=True):
            if error is not None:
                one = np.zeros(frame.rows, bool)
                one[row] = True
                frame.refuse(one, error.reason, self.column, f"{self.column!r} {error}")
        frame.require(self.column, valid)
        frame.put(self.into, pixels)

    def _decoded(self, data: bytes) -> Pixels:
        if len(data) > self.max_bytes:
            message = f"has {len(data)} bytes; at most {self.max_bytes}"
            raise ImageError(message, Reason.REASON_TOO_LARGE)
        header = examine(data, alone=self.alone)
        if header.format not in self.formats:
            allowed = ", ".join(self.formats)
            raise ImageError(f"is a {header.format} file; taken are {allowed}", Reason.REASON_INPUT_DTYPE)
        if header.width * header.height > self.max_pixels or max(header.width, header.height) > _MAX_SIDE:
            message = f"has {header.width} × {header.height} pixels; at most {self.max_pixels} and {_MAX_SIDE} a side"
            raise ImageError(message, Reason.REASON_TOO_LARGE)
        picture = decode(data[: header.end], header, self.size, self.crop, self.recompress)
        return picture[:, :, ::-1] if self.bgr else picture


def _each(work: Callable[[int], ImageError | None], rows: Sequence[int]) -> Iterable[ImageError | None]:
    """`work` on every row. Pillow releases the interpreter lock while it decodes, so threads decode several at once."""
    return map(work, rows) if len(rows) < 2 else _threads().map(work, rows)


@cache
def _threads() -> ThreadPoolExecutor:
    """One pool for the process: the number of images decoded at once bounds their memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(min(cores, _MOST_THREADS), thread_name_prefix="decode")


def _sides(options: Options, key: str) -> tuple[int, int]:
    numbers = options.numbers(key)
    if len(numbers) != 2 or not all(n.is_integer() and 1 <= n <= 4096 for n in numbers):
        raise options.error(key, "should be [height, width], each from 1 to 4096")
    return int(numbers[0]), int(numbers[1])


def _formats(options: Options) -> tuple[Format, ...]:
    known: Mapping[str, Format] = {f.lower(): f for f in FORMATS}
    names = options.names("formats")
    for i, name in enumerate(names):
        if name not in known:
            raise options.error(f"formats[{i}]", f"should be one of {', '.join(known)}")
    return tuple(known[name] for name in names)
