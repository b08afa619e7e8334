"""The service through hop. What it shares with preprocessing (one service runs the steps of both) is shown there."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from headrace.api.postprocessing.v1 import postprocessing_pb2 as pb
from headrace.columns import Batch, Column, Rows, decode, encode
from headrace.hop.errors import Code, Fault, Reason
from headrace.hop.testing import Harness, served
from headrace.steps import spec_json, spec_sha256
from services.postprocessing.wiring import SERVICE
from tests.libs.steps.step_calls import FORMAT


async def formatted(harness: Harness, x: Sequence[float], spec: dict[str, Any]) -> Batch:
    rows = Rows.one_request(len(x), "r", "tenant", time.monotonic() + 60)
    batch = Batch.of(rows, [Column.of("x", np.array(x))])
    request = pb.FormatRequest(spec_sha256=spec_sha256(spec), spec=spec_json(spec), batch=encode(batch))
    reply = await harness.client().unary(FORMAT)(request, deadline=time.monotonic() + 60)
    return decode(reply.batch)


async def test_a_value_that_breaks_the_output_fails_its_row_alone() -> None:
    spec = {"steps": [{"cast": {"column": "x", "type": "int64", "into": "y"}}], "outputs": {"y": "int8"}}
    async with served(SERVICE) as harness:
        reply = await formatted(harness, [1.0, 300.0, np.nan], spec)
        assert reply.columns["y"].array[0] == 1
        assert {row: (e.code, e.reason) for row, e in reply.errors.items()} == {
            1: (Code.INTERNAL, Reason.REASON_STEP_FAILED),
            2: (Code.INVALID_ARGUMENT, Reason.REASON_INPUT_RANGE),
        }


async def test_preprocessing_steps_are_not_served_here() -> None:
    spec = {"steps": [{"log1p": {"column": "x"}}], "outputs": {"x": "float64"}}
    async with served(SERVICE) as harness:
        with pytest.raises(Fault) as caught:
            await formatted(harness, [1.0], spec)
        assert caught.value.metadata["path"] == "steps[0].log1p"
