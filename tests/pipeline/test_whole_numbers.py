"""Whole numbers go through a pipeline as they came, beyond what a float32 or a float64 holds."""

import json
import struct
import urllib.error
import urllib.request
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
from tests.served import deployed
from tests.system import PREDICT, System

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


@pytest.fixture(autouse=True)
def _document(system: System) -> Iterator[None]:
    with deployed(system, NAME, DOCUMENT):
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


def posted(system: System, path: str, body: str) -> tuple[int, Any]:
    request = urllib.request.Request(system.endpoints["http"] + path, body.encode())
    request.add_header("content-type", "application/json")
    request.add_header("authorization", f"Bearer {system.key}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_rows_as_text_in_a_struct_and_in_json(system: System) -> None:
    request = pb.PredictRequest(pipeline=NAME)
    rows = [{"account": exact(account), "branch": branch} for account, branch in ODD]
    for row in rows:
        request.rows.add().update(row)
    expected = [[exact(n) for n in numbers] for numbers in ODD]
    found = [from_struct(p.outputs)["key"] for p in system.predict(request).predictions]
    assert found == expected
    status, reply = posted(system, PREDICT, json.dumps({"pipeline": NAME, "rows": rows}))
    assert (status, [p["outputs"]["key"] for p in reply["predictions"]]) == (200, expected)


@pytest.mark.parametrize("number", ["9007199254740993", "-9007199254740993", "9007199254740992", "1e18"])
def test_a_number_that_may_have_been_rounded_is_refused(system: System, number: str) -> None:
    body = f'{{"pipeline": "{NAME}", "rows": [{{"account": {number}, "branch": 1}}]}}'
    status, reply = posted(system, PREDICT, body)
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
    status, reply = posted(system, f"/v2/models/{NAME}/infer", json.dumps({"inputs": inputs}))
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
    status, reply = posted(system, path, json.dumps({"modelName": NAME, "inputs": inputs}))
    assert status == 200, reply
    message = json_format.ParseDict(reply, oip.ModelInferResponse())
    assert np.frombuffer(message.raw_output_contents[0], "<i8").reshape(3, 2).tolist() == ODD


def test_the_sdk(system: System) -> None:
    with Headrace(system.endpoints["grpc"], key=system.key) as client:
        result = client.predict(NAME, [{"account": a, "branch": b} for a, b in ODD])
    assert [p.outputs["key"] for p in result.predictions] == [[exact(n) for n in numbers] for numbers in ODD]
