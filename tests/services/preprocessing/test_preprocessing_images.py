"""Pictures through the service: rows fail alone, and calls beside them do not wait for a decoder."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.columns import Batch, Column, Rows, decode, encode
from headrace.hop.errors import Code, Reason
from headrace.hop.testing import Harness, served
from headrace.steps import spec_json, spec_sha256
from headrace.steps.builtin.images.decode_image import DecodeImage
from headrace.steps.builtin.images.decoder import Pixels
from services.preprocessing.wiring import SERVICE
from tests.libs.steps.image_files import GOOD, OUTPUTS, STEP, bomb, picture, png, saved
from tests.libs.steps.step_calls import TRANSFORM

PICTURES: dict[str, Any] = {"steps": [{"decode_image": STEP}], "outputs": OUTPUTS}
NUMBERS: dict[str, Any] = {"steps": [{"round": {"column": "x", "decimals": 0}}], "outputs": {"x": "float64"}}


async def transform(harness: Harness, spec: dict[str, Any], column: Column) -> Batch:
    rows = Rows.one_request(len(column), "r", "tenant", time.monotonic() + 60)
    request = pb.TransformRequest(
        spec_sha256=spec_sha256(spec), spec=spec_json(spec), batch=encode(Batch.of(rows, [column]))
    )
    reply = await harness.client().unary(TRANSFORM)(request, deadline=time.monotonic() + 60)
    return decode(reply.batch)


async def test_bad_pictures_fail_alone() -> None:
    files = [GOOD["jpeg"], bomb(), GOOD["png"][:-9], GOOD["webp"] + b"PK", png(10_000, 10_000, b""), b"x"]
    async with served(SERVICE, {}) as harness:
        reply = await transform(harness, PICTURES, Column.of_bytes("image", [*files, GOOD["png"], None]))
    assert {row: error.reason for row, error in reply.errors.items()} == {
        1: Reason.REASON_TOO_LARGE,
        2: Reason.REASON_MALFORMED_REQUEST,
        3: Reason.REASON_MALFORMED_REQUEST,
        4: Reason.REASON_TOO_LARGE,
        5: Reason.REASON_INPUT_DTYPE,
        7: Reason.REASON_INPUT_MISSING,
    }
    assert {error.code for error in reply.errors.values()} == {Code.INVALID_ARGUMENT}
    pixels = reply.columns["pixels"].array
    assert pixels.shape == (8, 56, 56, 3)
    assert pixels[0].any()
    assert pixels[6].any()


async def test_other_calls_do_not_wait_for_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of 16 million pixels takes a while, and here until the numbers beside it are rounded."""
    large = saved(picture(4096, 4096), "PNG", compress_level=1)
    decoded, decoding, rounded = DecodeImage._decoded, threading.Event(), threading.Event()

    def late(step: DecodeImage, data: bytes) -> Pixels:
        decoding.set()
        assert rounded.wait(60), "nothing is answered while a picture is decoded"
        return decoded(step, data)

    monkeypatch.setattr(DecodeImage, "_decoded", late)
    async with served(SERVICE, {}) as harness:
        number = Column.of("x", np.array([1.6]))
        pictures = asyncio.create_task(transform(harness, PICTURES, Column.of_bytes("image", [large])))
        assert await asyncio.to_thread(decoding.wait, 60)
        for _ in range(10):
            reply = await transform(harness, NUMBERS, number)
            assert reply.columns["x"].array.tolist() == [2.0]
        assert not pictures.done()
        rounded.set()
        assert (await pictures).errors == {}
