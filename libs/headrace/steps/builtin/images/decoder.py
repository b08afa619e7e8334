"""Decodes an examined image file with Pillow."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.steps.builtin.images.containers import Header, ImageError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
_METADATA = (b"Exif\0\0", b"MPF\0")


def decode(
    data: bytes, header: Header, size: tuple[int, int], crop: tuple[int, int], recompress: int = 0
) -> Pixels:
    """uint8 (*crop, 3) in RGB: the image resized to `size`, then its middle `crop`; both (height, width).

    `recompress`: save the crop as a JPEG of this quality and read it again; 0: do not. Raises ImageError.
    """
    if header.format == "JPEG":
        # Pillow parses these blocks when it opens a file. Nothing here needs them, and their parser is attack surface.
        for metadata in _METADATA:
            data = data.replace(metadata, bytes(len(metadata)))
    try:
        picture = _resized(data, header, size)
        top, left = ((s - c) // 2 for s, c in zip(size, crop, strict=True))
        picture = picture.crop((left, top, left + crop[1], top + crop[0]))
        return np.asarray(_recompressed(picture, recompress) if recompress else picture)
    except ImageError:
        raise
    # For a damaged file the decoder may raise anything, also MemoryError; in every case the row is at fault.
    except Exception as error:
        raise ImageError(f"can't be decoded: the {header.format} file is damaged") from error


def _resized(data: bytes, header: Header, size: tuple[int, int]) -> Image.Image:
    # Imported here: compiling a document does not need Pillow, running it does.
    from PIL import Image

    height, width = size
    with Image.open(BytesIO(data), formats=[header.format]) as image:
        if image.size != (header.width, header.height):
            raise ImageError("says two different sizes")
        # A JPEG can be decoded at 1/8 to 8/8 of its size: the smallest that is at least twice what is wanted.
        image.draft("RGB", (2 * width, 2 * height))
        image.load()
        return _rgb(image).resize((width, height), Image.Resampling.BILINEAR)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion would clip, not scale
        from PIL import Image

        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _recompressed(picture: Image.Image, quality: int) -> Image.Image:
    from PIL import Image

    file = BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file, formats=["JPEG"])
