"""Whole numbers go through a pipeline as they came, beyond what a float32 or a float64 holds."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.columns import Column, decode_columns, encode_columns
from headrace.oip import open_inference_pb2 as oip
from tests.served import deployed
from tests.system import System

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
