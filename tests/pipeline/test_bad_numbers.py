"""NaN and infinities where the document does not allow them, in every form in which a client can send them."""

import json
import math
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Column, encode_columns
from headrace.oip import open_inference_pb2 as oip
from tests.pipeline.refusals import failure
from tests.served import deployed
from tests.system import System, row_request

NAME = "numbers"
DOCUMENT = f"""
pipeline: {NAME}
version: 1
deadline_ms: 30000
inputs:
  strict: float32
  bounded: {{type: float64, range: [0, 10]}}
  lax: {{type: float32, allow_nan: true}}
stages:
  - preprocessing: clip
    steps: [clip: {{columns: [strict], low: -5, high: 5}}, assemble: {{columns: [strict], into: clipped}}]
    outputs: {{clipped: {{type: float32, shape: [1]}}}}
outputs: [clipped]
"""
GOOD = {"strict": 7.0, "bounded": 1.0, "lax": math.nan}


@pytest.fixture(scope="module", autouse=True)
def _document(system: System) -> Iterator[None]:
    with deployed(system, NAME, DOCUMENT):
        yield


def columns(rows: list[dict[str, float]]) -> pb.PredictRequest:
    """The rows as columns: JSON, and so `rows`, has no NaN."""
    types = {"strict": np.float32, "bounded": np.float64, "lax": np.float32}
    made = [Column.of(name, np.array([row[name] for row in rows], kind)) for name, kind in types.items()]
    return pb.PredictRequest(pipeline=NAME, columns=encode_columns(made), row_count=len(rows))


def tensors(rows: list[dict[str, float]], *, typed: bool) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=NAME)
    for name, kind in (("strict", "FP32"), ("bounded", "FP64"), ("lax", "FP32")):
        tensor = request.inputs.add(name=name, datatype=kind, shape=[len(rows), 1])
        values = [row[name] for row in rows]
        if typed:
            getattr(tensor.contents, f"{kind.lower()}_contents").extend(values)
        else:
            letter = "f" if kind == "FP32" else "d"
            request.raw_input_contents.append(struct.pack(f"<{len(rows)}{letter}", *values))
    return request


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["strict", "bounded"])
def test_not_a_number(system: System, field: str, value: float) -> None:
    rows = [GOOD, {**GOOD, field: value}]
    for form in (False, True):
        code, reason, message, metadata = failure(system.infer, tensors(rows, typed=form))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_RANGE")
        assert f"input {field}, row 1" in message
        assert (metadata["input"], metadata["row"]) == (field, "1")
    code, reason, message, _ = failure(system.predict, columns(rows[1:]))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_RANGE")
    assert field in message


def test_where_it_is_allowed_it_is_let_through(system: System) -> None:
    for form in (False, True):
        answer = system.infer(tensors([GOOD], typed=form))
        assert struct.unpack("<f", answer.raw_output_contents[0]) == (5.0,)
    shown: Any = system.predict(row_request(GOOD, pipeline=NAME)).predictions[0].outputs["clipped"]
    assert list(shown) == [5.0]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", '"NaN"'])
def test_in_json(system: System, text: str) -> None:
    body = json.dumps({"pipeline": NAME, "rows": [{"strict": 0, "bounded": "HERE", "lax": 0}]})
    request = urllib.request.Request(
        f"{system.endpoints['http']}/headrace.api.inference.v1.InferenceService/Predict",
        body.replace('"HERE"', text).encode(),
        {"content-type": "application/json", "x-api-key": system.key},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value as answer:
        assert answer.status == 400
        assert json.load(answer)["code"] == "invalid_argument"


def test_by_rows_it_is_refused_too(system: System) -> None:
    request = row_request({**GOOD, "lax": 0.0, "strict": math.nan}, pipeline=NAME)
    code, _, message, _ = failure(system.predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "strict" in message
