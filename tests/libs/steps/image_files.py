"""Image files: good ones of every kind, and ones that nobody should decode."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from headrace.steps import compile_steps
from headrace.steps.program.program import Program

STEP: dict[str, Any] = {"column": "image", "size": [64, 64], "crop": [56, 56], "into": "pixels"}
OUTPUTS = {"pixels": {"type": "uint8", "shape": [56, 56, 3]}}


def program(**options: Any) -> Program:
    """`decode_image` with these options."""
    return compile_steps(
        "preprocessing", {"steps": [{"decode_image": {**STEP, **options}}], "outputs": OUTPUTS}
    )


def picture(width: int = 200, height: int = 120, seed: int = 1) -> Image.Image:
    """Something smooth with edges in it."""
    dice = np.random.default_rng(seed)
    small = dice.integers(0, 256, (8, 12, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def half_there() -> Image.Image:
    """The picture with transparency."""
    image = picture().convert("RGBA")
    image.putalpha(picture(seed=2).convert("L"))
    return image


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG file of 8-bit grey that claims a size; `rows`: what is compressed in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bomb(side: int = 20_000) -> bytes:
    """A true bomb: 400 million grey pixels in a file of 400 kB."""
    packer = zlib.compressobj(9)
    row = bytes(side + 1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG file whose header claims another size."""
    data = bytearray(saved(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    """A small lossless WebP file whose picture claims another size."""
    data = bytearray(saved(picture(), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, bits & ~0x0FFFFFFF | (height - 1) << 14 | (width - 1))
    return bytes(data)


GOOD: dict[str, bytes] = {
    "jpeg": saved(picture(), "JPEG"),
    "progressive": saved(picture(), "JPEG", progressive=True),
    "grey jpeg": saved(picture().convert("L"), "JPEG"),
    "cmyk jpeg": saved(picture().convert("CMYK"), "JPEG"),
    "jpeg with exif": saved(picture(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", comment=b"hello"),
    "png": saved(picture(), "PNG"),
    "palette png": saved(picture().convert("P"), "PNG", transparency=bytes([0, 255] * 128)),
    "alpha png": saved(half_there(), "PNG"),
    "grey png": saved(picture().convert("L"), "PNG"),
    "two colours": saved(picture().convert("1"), "PNG"),
    "grey and alpha": saved(picture().convert("LA"), "PNG"),
    "16 bits": saved(Image.fromarray(np.arange(24_000, dtype=np.uint16).reshape(120, 200)), "PNG"),
    "webp": saved(picture(), "WEBP"),
    "lossless webp": saved(picture(), "WEBP", lossless=True),
    "alpha webp": saved(half_there(), "WEBP", exact=True),
    "webp with profile": saved(picture(), "WEBP", icc_profile=b"x" * 131),
    "one pixel": saved(picture(1, 1), "PNG"),
}
