"""From an examined image file to pixels, by Pillow."""

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
    """uint8 (*crop, 3) in RGB: the picture resized to `size`, the middle `crop` of it; both (height, width).

    `recompress`: the quality of a JPEG file that it becomes in between; 0: none. Raises ImageError.
    """
    if header.format == "JPEG":
        # Pillow reads these when it opens a file; nobody here asks, and a parser need not see what strangers wrote.
        for metadata in _METADATA:
            data = data.replace(metadata, bytes(len(metadata)))
    try:
        picture = _resized(data, header, size)
        top, left = ((s - c) // 2 for s, c in zip(size, crop, strict=True))
        picture = picture.crop((left, top, left + crop[1], top + crop[0]))
        return np.asarray(_recompressed(picture, recompress) if recompress else picture)
    except ImageError:
        raise
    # Decoders of damaged files raise anything, MemoryError included; the row is at fault whatever it is.
    except Exception as error:
        raise ImageError(f"can't be decoded: the {header.format} file is damaged") from error


def _resized(data: bytes, header: Header, size: tuple[int, int]) -> Image.Image:
    # Compiling a document needs no decoder; running it does.
    from PIL import Image

    height, width = size
    with Image.open(BytesIO(data), formats=[header.format]) as image:
        if image.size != (header.width, header.height):
            raise ImageError("says two different sizes")
        # A JPEG is decoded at the eighth to the whole of its size that is still twice what is wanted.
        image.draft("RGB", (2 * width, 2 * height))
        image.load()
        return _rgb(image).resize((width, height), Image.Resampling.BILINEAR)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey: Pillow's own conversion would cut, not scale
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
