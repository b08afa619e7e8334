"""Images of strangers: every good one is decoded, every bad one fails its row alone, before it costs anything."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from headrace.columns import Column
from headrace.hop.errors import Code, Reason
from headrace.steps import SpecError
from headrace.steps.builtin.images import decode_image as images
from headrace.steps.builtin.images import decoder as image_decoding
from headrace.steps.builtin.images.containers import FORMATS, ImageError, examine
from headrace.steps.program.program import Result
from tests.libs.steps.image_files import (
    GOOD,
    bomb,
    chunk,
    jpeg_of_size,
    picture,
    png,
    program,
    saved,
    webp_of_size,
)

PNG_END = chunk(b"IEND", b"")


def run(*files: bytes | None, **options: Any) -> Result:
    return program(**options).run({"image": Column.of_bytes("image", files)}, len(files))


def refusal(data: bytes, **options: Any) -> str:
    result = run(GOOD["png"], data, GOOD["png"], **options)
    assert list(result.errors) == [1]
    pixels = result.columns["pixels"].array
    assert (pixels[0] == pixels[2]).all()
    assert not pixels[1].any()
    assert result.errors[1].code is Code.INVALID_ARGUMENT
    return result.errors[1].message


def expected(data: bytes) -> np.ndarray:
    """Pillow's own way, without our care."""
    with Image.open(BytesIO(data)) as file:
        image: Image.Image = file
        if image.mode == "I;16":
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P":
            image = image.convert("RGBA")
        small = image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
        return np.asarray(small)[4:60, 4:60]


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_of_good_image_is_decoded(kind: str) -> None:
    result = run(GOOD[kind])
    assert result.errors == {}
    assert (result.columns["pixels"].array[0] == expected(GOOD[kind])).all()


def test_a_large_jpeg_decoded_at_a_part_of_its_size_looks_the_same() -> None:
    data = saved(picture(3000, 2000), "JPEG", quality=90)
    found = run(data).columns["pixels"].array[0].astype(int)
    assert np.abs(found - expected(data)).mean() < 1


def test_channels_and_formats_as_asked_for() -> None:
    rgb, bgr = (run(GOOD["png"], channels=c).columns["pixels"].array[0] for c in ("rgb", "bgr"))
    assert (rgb == bgr[:, :, ::-1]).all()
    assert run(GOOD["png"], formats=["png"]).errors == {}
    assert "is a WEBP file; taken are JPEG, PNG" in refusal(GOOD["webp"], formats=["jpeg", "png"])


def test_the_pictures_of_a_batch_are_decoded_at_the_same_time_and_each_lands_in_its_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [saved(picture(seed=i), "PNG") for i in range(40)]
    files[3] = files[17] = b"no picture"
    together = threading.Barrier(2)

    def decode(*arguments: Any) -> Any:
        # The first two must be at it at once, or nobody gets past here.
        if arguments[0] in files[:2]:
            together.wait(timeout=20)
        return image_decoding.decode(*arguments)

    monkeypatch.setattr(images, "decode", decode)
    pool = ThreadPoolExecutor(2)
    monkeypatch.setattr(images, "_threads", lambda: pool)
    with pool:
        result = run(*files)
    assert list(result.errors) == [3, 17]
    for row, data in enumerate(files):
        pixels = result.columns["pixels"].array[row]
        assert (pixels == (0 if row in (3, 17) else expected(data))).all(), row


def test_how_many_pictures_are_decoded_at_once_is_bounded() -> None:
    files = [GOOD["png"]] * 30
    run(*files)
    run(*files)
    running = [t for t in threading.enumerate() if t.name.startswith("decode")]
    assert 1 <= len(running) <= 4


def test_rows_without_an_image_fail_alone() -> None:
    result = run(GOOD["png"], None, b"")
    assert {r: e.reason for r, e in result.errors.items()} == {
        1: Reason.REASON_INPUT_MISSING,
        2: Reason.REASON_INPUT_DTYPE,
    }


@pytest.mark.parametrize(
    "data",
    [png(10_000, 10_000, b"\0"), jpeg_of_size(10_000, 10_000), webp_of_size(10_000, 10_000), bomb()],
    ids=["png", "jpeg", "webp", "bomb"],
)
def test_a_hundred_megapixels_are_refused_by_their_header(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "open", None)  # no decoder is asked
    result = run(data)
    assert "pixels; at most 16777216" in result.errors[0].message
    assert result.errors[0].reason is Reason.REASON_TOO_LARGE


def test_a_long_thin_image_and_a_long_file_are_refused() -> None:
    assert "16383 a side" in refusal(png(100_000, 1, b"\0"))
    assert f"has {len(GOOD['png'])} bytes; at most 100" in run(GOOD["png"], max_bytes=100).errors[0].message
    assert "0 × 5 pixels" in refusal(png(0, 5, b"\0"))


@pytest.mark.parametrize("kind", GOOD)
def test_a_truncated_file_is_refused_wherever_it_ends(kind: str) -> None:
    data = GOOD[kind]
    for end in {*range(1, 60), *range(60, len(data), max(len(data) // 200, 1)), len(data) - 1}:
        with pytest.raises(ImageError):
            examine(data[:end])


@pytest.mark.parametrize("kind", ["jpeg", "progressive", "png", "webp", "alpha webp"])
@pytest.mark.parametrize(
    "tail", [b"\0", b"PK\x03\x04 a zip file", b"<script>alert(1)</script>", GOOD["jpeg"], PNG_END]
)
def test_a_file_that_is_also_something_else_is_refused(kind: str, tail: bytes) -> None:
    assert "after its end; cut them off" in refusal(GOOD[kind] + tail)
    alone, followed = run(GOOD[kind], GOOD[kind] + tail, after_end="ignore").columns["pixels"].array
    assert (alone == followed).all()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(form: str) -> None:
    more: dict[str, Any] = {"save_all": True, "append_images": [picture(seed=2)], "duration": 100}
    assert "is animated; send its frames one by one" in refusal(saved(picture(), form, **more))


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP", "PPM", "ICO"])
def test_other_formats_are_refused(form: str) -> None:
    assert "is no JPEG, PNG or WebP file" in refusal(saved(picture(), form))


def test_a_jpeg_with_a_thousand_scans_is_refused() -> None:
    """Each makes a decoder go over the whole picture again."""
    data = GOOD["progressive"]
    at = data.rindex(b"\xff\xda")
    assert "too many scans" in refusal(data[:-2] + data[at:-2] * 1000 + b"\xff\xd9")


def test_containers_that_contradict_themselves_are_refused() -> None:
    jpeg, webp = GOOD["jpeg"], GOOD["alpha webp"]
    frame = jpeg[jpeg.index(b"\xff\xc0") : jpeg.index(b"\xff\xc4")]
    assert "of a kind that is not taken" in refusal(jpeg.replace(frame, frame + frame))
    assert "of a kind that is not taken" in refusal(jpeg.replace(b"\xff\xc0", b"\xff\xc9"))
    assert "two different sizes" in refusal(webp[:24] + b"\x10" + webp[25:])
    assert "many parts" in refusal(png(8, 8, b"\0", *[chunk(b"tEXt", b"")] * 17_000))
    assert "no decoder here knows" in refusal(png(8, 8, b"\0", chunk(b"JDAT", b"")))
    assert "ends before its picture" in refusal(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0" * 13) + PNG_END)


def test_a_whole_file_with_damaged_data_is_refused() -> None:
    assert "the PNG file is damaged" in refusal(png(64, 64, b"\0" * 10))
    assert "the PNG file is damaged" in refusal(png(64, 64, b"\x09" * 65 * 64))


@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP", b""]),
    st.binary(max_size=300),
)
@example(b"\xff\xd8\xff", b"\xff" * 200)
def test_any_bytes_are_examined_or_refused(start: bytes, rest: bytes) -> None:
    try:
        header = examine(start + rest)
    except ImageError:
        return
    assert header.format in FORMATS
    assert header.width > 0 < header.height


def test_a_thousand_mutated_images_fail_row_by_row_in_bounded_memory() -> None:
    """In a process of its own, whose greatest memory is then its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.libs.steps.image_mutations"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, decoded, grown_mib = map(int, done.stdout.split())
    assert refused + decoded == 1_000
    assert refused > 300
    assert decoded > 50
    # Two decodings of 16.8 million pixels' worth would be 400; none of these may claim that much and get it.
    assert grown_mib < 300


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"size": [64]}, "size"),
        ({"size": [64, 0]}, "size"),
        ({"size": [64, 5000]}, "size"),
        ({"crop": [65, 64]}, "crop"),
        ({"formats": ["gif"]}, "formats[0]"),
        ({"channels": "grey"}, "channels"),
        ({"max_pixels": 10**9}, "max_pixels"),
    ],
)
def test_options_that_can_not_be_are_named(options: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as caught:
        program(**options)
    assert caught.value.path == f"steps[0].decode_image.{path}"


def test_pictures_are_never_decoded_on_the_event_loop() -> None:
    assert program().weight > 1 << 16
