"""The service through hop: the same bits as offline, and what it answers to what it can't run. Pictures: rows fail alone, and
calls beside them do not wait for a decoder."""

import asyncio
import threading
import time
from typing import Any, Literal

import numpy as np
import pytest

from headrace.api.preprocessing.v1 import preprocessing_pb2 as pb
from headrace.columns import Batch, Column, Rows, decode, encode
from headrace.hop.errors import Code, Fault
from headrace.hop.testing import Harness, served
from headrace.steps import compile_steps, service, spec_json, spec_sha256
from headrace.steps.builtin.images.decode_image import DecodeImage
from headrace.steps.builtin.images.decoder import Pixels
from services.preprocessing.wiring import SERVICE
from services.router.stages.steps import TRANSFORM
from tests.libs.steps.image_files import OUTPUTS, STEP, picture, saved

SPEC: dict[str, Any] = {
    "steps": [
        {"impute": {"columns": {"seats": 149}}},
        {"one_hot": {"column": "carrier", "vocabulary": ["UA", "DL"], "into": "hot"}},
        {"cyclic": {"column": "hour", "period": 24}},
        {"assemble": {"columns": ["seats", "hot", "hour_sin", "hour_cos"], "into": "input"}},
    ],
    "outputs": {"input": {"type": "float32", "shape": [5]}},
}
Transport = Literal["unix", "local"]
PICTURES: dict[str, Any] = {"steps": [{"decode_image": STEP}], "outputs": OUTPUTS}
NUMBERS: dict[str, Any] = {"steps": [{"round": {"column": "x", "decimals": 0}}], "outputs": {"x": "float64"}}


def batch_of(rows: int, left: float = 5.0) -> Batch:
    there = np.arange(rows) % 3 != 0
    return Batch.of(
        Rows.one_request(rows, "r", "tenant", time.monotonic() + left),
        [
            Column.of("seats", np.where(there, np.arange(rows), 0).astype(np.int32), there),
            Column.of_text("carrier", [["UA", "DL", None, "ZZ"][i % 4] for i in range(rows)]),
            Column.of("hour", (np.arange(rows) % 24).astype(np.int32)),
        ],
    )


async def transform(
    harness: Harness, batch: Batch, spec: bytes | None = None, sha256: str | None = None
) -> Batch:
    request = pb.TransformRequest(
        spec_sha256=spec_sha256(SPEC) if sha256 is None else sha256,
        spec=spec_json(SPEC) if spec is None else spec,
        batch=encode(batch),
    )
    reply = await harness.client().unary(TRANSFORM)(request, deadline=time.monotonic() + 60)
    return decode(reply.batch)


@pytest.mark.parametrize("transport", ["unix", "local"])
@pytest.mark.parametrize("inline_work", [0, 1 << 20])
async def test_the_service_gives_the_same_bits_as_the_steps_offline(
    transport: Transport, inline_work: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compile_steps("preprocessing", SPEC)
    monkeypatch.setattr(service, "INLINE_WORK", inline_work)
    async with served(SERVICE, {}, transport) as harness:
        for rows in (1, 2, 7, 64, 300):
            batch = batch_of(rows)
            reply = await transform(harness, batch)
            assert list(reply.columns) == ["input"]
            offline = program.run(batch.columns, rows).columns["input"].array
            assert reply.columns["input"].array.tobytes() == offline.tobytes()
            assert reply.errors == {}


async def test_wrong_steps_are_named_by_their_place() -> None:
    wrong = {**SPEC, "steps": [{"impute": {"columns": {}}}]}
    async with served(SERVICE) as harness:
        with pytest.raises(Fault) as caught:
            await transform(harness, batch_of(1), spec_json(wrong), spec_sha256(wrong))
        assert caught.value.code is Code.INVALID_ARGUMENT
        assert caught.value.metadata["path"] == "steps[0].impute.columns"


async def test_a_malformed_batch_is_the_callers_fault() -> None:
    async with served(SERVICE) as harness:
        request = pb.TransformRequest(
            spec_sha256=spec_sha256(SPEC), spec=spec_json(SPEC), batch=encode(batch_of(2))
        )
        request.batch.columns[0].data = b"odd"
        with pytest.raises(Fault) as caught:
            await harness.client().unary(TRANSFORM)(request, deadline=time.monotonic() + 60)
        assert caught.value.code is Code.INVALID_ARGUMENT


async def test_the_reply_tells_its_time_and_the_metrics_what_was_unseen() -> None:
    async with served(SERVICE) as harness:
        reply = await transform(harness, batch_of(8))
        (timing,) = reply.timings
        assert (timing.stage, timing.service, timing.row_count) == ("preprocessing", "preprocessing", 8)
        registry = harness.runtime.telemetry.registry
        unseen = registry.get_sample_value(
            "headrace_preprocessing_unseen_values_total", {"step": "one_hot", "column": "carrier"}
        )
        assert unseen == 2
        assert registry.get_sample_value("headrace_preprocessing_batch_rows_count") == 1


async def transform_column(harness: Harness, spec: dict[str, Any], column: Column) -> Batch:
    rows = Rows.one_request(len(column), "r", "tenant", time.monotonic() + 60)
    return await transform(harness, Batch.of(rows, [column]), spec_json(spec), spec_sha256(spec))


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
        pictures = asyncio.create_task(transform_column(harness, PICTURES, Column.of_bytes("image", [large])))
        assert await asyncio.to_thread(decoding.wait, 60)
        for _ in range(10):
            reply = await transform_column(harness, NUMBERS, number)
            assert reply.columns["x"].array.tolist() == [2.0]
        assert not pictures.done()
        rounded.set()
        assert (await pictures).errors == {}
