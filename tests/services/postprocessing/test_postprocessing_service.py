"""The service through hop: the same bits as offline over both transports, errors row by row."""

import time
from typing import Any, Literal

import numpy as np
import pytest

from headrace.api.postprocessing.v1 import postprocessing_pb2 as pb
from headrace.columns import Batch, Column, Rows, decode, encode
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from headrace.steps import compile_steps, spec_json, spec_sha256
from services.postprocessing.wiring import SERVICE
from services.router.stages.steps import FORMAT

SPEC: dict[str, Any] = {
    "steps": [
        {"calibrate": {"column": "probabilities", "method": "temperature", "t": 1.5}},
        {"pick": {"column": "probabilities", "index": 1, "into": "probability"}},
        {"threshold": {"column": "probability", "at": 0.3, "into": "delayed"}},
        {"labels": {"column": "probabilities", "labels": ["on time", "late"], "into": "verdict"}},
        {"round": {"column": "probability", "decimals": 3}},
    ],
    "outputs": {"delayed": "bool", "probability": "float32", "verdict": "string"},
}


def batch_of(rows: int) -> Batch:
    late = np.linspace(0, 1, rows, dtype=np.float32)
    context = Rows.one_request(rows, "r", "tenant", time.monotonic() + 60)
    return Batch.of(context, [Column.of("probabilities", np.stack([1 - late, late], axis=1))])


async def formatted(harness: Harness, batch: Batch, spec: dict[str, Any]) -> Batch:
    request = pb.FormatRequest(spec_sha256=spec_sha256(spec), spec=spec_json(spec), batch=encode(batch))
    reply = await harness.client().unary(FORMAT)(request, deadline=time.monotonic() + 60)
    return decode(reply.batch)


@pytest.mark.parametrize("transport", ["unix", "local"])
async def test_the_service_gives_the_same_bits_as_the_steps_offline(
    transport: Literal["unix", "local"],
) -> None:
    program = compile_steps("postprocessing", SPEC)
    async with served(SERVICE, {}, transport) as harness:
        for rows in (1, 3, 64, 3000):
            batch = batch_of(rows)
            reply = await formatted(harness, batch, SPEC)
            offline = program.run(batch.columns, rows).columns
            assert list(reply.columns) == ["delayed", "probability", "verdict"]
            assert reply.columns["verdict"].text() == offline["verdict"].text()
            for name in ("delayed", "probability"):
                assert reply.columns[name].array.tobytes() == offline[name].array.tobytes()


async def test_a_value_that_breaks_the_output_fails_its_row_alone() -> None:
    spec = {"steps": [{"cast": {"column": "x", "type": "int64", "into": "y"}}], "outputs": {"y": "int8"}}
    batch = Batch.of(batch_of(3).rows, [Column.of("x", np.array([1.0, 300.0, np.nan]))])
    async with served(SERVICE) as harness:
        reply = await formatted(harness, batch, spec)
        assert {row: (e.code, e.reason) for row, e in reply.errors.items()} == {
            1: (Code.INTERNAL, Reason.REASON_STEP_FAILED),
            2: (Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE),
        }


async def test_preprocessing_steps_are_not_served_here() -> None:
    spec = {"steps": [{"log1p": {"column": "x"}}], "outputs": {"x": "float64"}}
    async with served(SERVICE) as harness:
        with pytest.raises(Fault) as caught:
            await formatted(harness, batch_of(1), spec)
        assert caught.value.metadata["path"] == "steps[0].log1p"
