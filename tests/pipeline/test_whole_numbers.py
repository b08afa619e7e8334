"""Numbers through a pipeline: whole ones come back as they came, beyond what a float32 or a float64 holds; NaN and
infinities where the document does not allow them are refused, in every form in which a client can send them."""

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.client import Headrace
from headrace.client.values import from_struct
from headrace.columns import Column, decode_columns, encode_columns
from headrace.oip import open_inference_pb2 as oip
from tests.pipeline.refusals import failure
from tests.posting import post_json
from tests.served import deployed
from tests.system import PREDICT, System, row_request

NAME = "whole"
DOCUMENT = f"""
pipeline: {NAME}
version: 1
deadline_ms: 30000
inputs: {{account: int64, branch: int32}}
stages:
  - preprocessing: gather
    steps: [assemble: {{columns: [account, branch], into: key}}]
    outputs: {{key: {{type: int64, shape: [2]}}}}
outputs: [key]
"""
ODD = [[(1 << 24) + 1, 7], [(1 << 53) + 1, -(1 << 31)], [-(1 << 63), (1 << 31) - 1]]
BOUNDED = "numbers"
BOUNDED_DOCUMENT = f"""
pipeline: {BOUNDED}
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
def _documents(system: System) -> Iterator[None]:
    with deployed(system, NAME, DOCUMENT), deployed(system, BOUNDED, BOUNDED_DOCUMENT):
        yield


def columns() -> pb.PredictRequest:
    accounts, branches = np.array(ODD, np.int64).T
    made = [Column.of("account", accounts), Column.of("branch", branches.astype(np.int32))]
    return pb.PredictRequest(pipeline=NAME, columns=encode_columns(made), row_count=len(ODD))


def test_columns(system: System) -> None:
    found = decode_columns(system.predict(columns()).columns, len(ODD))
    assert found["key"].array.tolist() == ODD


def test_open_inference(system: System) -> None:
    request = oip.ModelInferRequest(model_name=NAME)
    for name, kind, letter, place in (("account", "INT64", "q", 0), ("branch", "INT32", "i", 1)):
        request.inputs.add(name=name, datatype=kind, shape=[len(ODD)])
        request.raw_input_contents.append(struct.pack(f"<{len(ODD)}{letter}", *[row[place] for row in ODD]))
    answer = system.infer(request)
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("INT64", [3, 2])
    assert np.frombuffer(answer.raw_output_contents[0], "<i8").reshape(3, 2).tolist() == ODD


def exact(number: int) -> int | str:
    """As JSON has it: as text where a number's reader may round it."""
    return number if abs(number) < 1 << 53 else str(number)


def test_rows_as_text_in_a_struct_and_in_json(system: System) -> None:
    request = pb.PredictRequest(pipeline=NAME)
    rows = [{"account": exact(account), "branch": branch} for account, branch in ODD]
    for row in rows:
        request.rows.add().update(row)
    expected = [[exact(n) for n in numbers] for numbers in ODD]
    found = [from_struct(p.outputs)["key"] for p in system.predict(request).predictions]
    assert found == expected
    status, reply = post_json(system, PREDICT, {"pipeline": NAME, "rows": rows})
    assert (status, [p["outputs"]["key"] for p in reply["predictions"]]) == (200, expected)


@pytest.mark.parametrize("number", ["9007199254740993", "-9007199254740993", "9007199254740992", "1e18"])
def test_a_number_that_may_have_been_rounded_is_refused(system: System, number: str) -> None:
    body = f'{{"pipeline": "{NAME}", "rows": [{{"account": {number}, "branch": 1}}]}}'
    status, reply = post_json(system, PREDICT, body)
    assert (status, reply["details"][0]["debug"]["reason"]) == (400, "INPUT_DTYPE")
    assert "as text" in reply["message"]
    request = pb.PredictRequest(pipeline=NAME)
    request.rows.add().update({"account": float(number), "branch": 1})
    with pytest.raises(grpc.RpcError, match="as text"):
        system.predict(request)


@pytest.mark.parametrize("form", [int, exact, str], ids=["digits", "safe", "text"])
def test_open_inference_json(system: System, form: Any) -> None:
    accounts, branches = zip(*ODD, strict=True)
    inputs = [
        {"name": "account", "datatype": "INT64", "shape": [3], "data": [form(a) for a in accounts]},
        {"name": "branch", "datatype": "INT32", "shape": [3], "data": branches},
    ]
    status, reply = post_json(system, f"/v2/models/{NAME}/infer", {"inputs": inputs})
    assert status == 200, reply
    assert reply["outputs"][0]["data"] == [exact(n) for numbers in ODD for n in numbers]


def test_open_inference_in_protobufs_json(system: System) -> None:
    """Whose numbers of 64 bits are text, and whose parser here reads digits exactly."""
    inputs = [
        {
            "name": "account",
            "datatype": "INT64",
            "shape": [3],
            "contents": {"int64Contents": [a for a, _ in ODD]},
        },
        {
            "name": "branch",
            "datatype": "INT32",
            "shape": [3],
            "contents": {"intContents": [b for _, b in ODD]},
        },
    ]
    path = "/inference.GRPCInferenceService/ModelInfer"
    status, reply = post_json(system, path, {"modelName": NAME, "inputs": inputs})
    assert status == 200, reply
    message = json_format.ParseDict(reply, oip.ModelInferResponse())
    assert np.frombuffer(message.raw_output_contents[0], "<i8").reshape(3, 2).tolist() == ODD


def test_the_sdk(system: System) -> None:
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        result = client.predict(NAME, [{"account": a, "branch": b} for a, b in ODD])
    assert [p.outputs["key"] for p in result.predictions] == [[exact(n) for n in numbers] for numbers in ODD]


def number_columns(rows: list[dict[str, float]]) -> pb.PredictRequest:
    """The rows as columns: JSON, and so `rows`, has no NaN."""
    types = {"strict": np.float32, "bounded": np.float64, "lax": np.float32}
    made = [Column.of(name, np.array([row[name] for row in rows], kind)) for name, kind in types.items()]
    return pb.PredictRequest(pipeline=BOUNDED, columns=encode_columns(made), row_count=len(rows))


def tensors(rows: list[dict[str, float]], *, typed: bool) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=BOUNDED)
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
    code, reason, message, _ = failure(system.predict, number_columns(rows[1:]))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_RANGE")
    assert field in message


def test_where_it_is_allowed_it_is_let_through(system: System) -> None:
    for form in (False, True):
        answer = system.infer(tensors([GOOD], typed=form))
        assert struct.unpack("<f", answer.raw_output_contents[0]) == (5.0,)
    shown: Any = system.predict(row_request(GOOD, pipeline=BOUNDED)).predictions[0].outputs["clipped"]
    assert list(shown) == [5.0]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", '"NaN"'])
def test_in_json(system: System, text: str) -> None:
    body = json.dumps({"pipeline": BOUNDED, "rows": [{"strict": 0, "bounded": "HERE", "lax": 0}]})
    status, reply = post_json(system, PREDICT, body.replace('"HERE"', text))
    assert (status, reply["code"]) == (400, "invalid_argument")


def test_by_rows_it_is_refused_too(system: System) -> None:
    request = row_request({**GOOD, "lax": 0.0, "strict": math.nan}, pipeline=BOUNDED)
    code, _, message, _ = failure(system.predict, request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "strict" in message
