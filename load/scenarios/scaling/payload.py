"""`scaling payload`: what a request costs, the more bytes it brings: one row of a model alone with ever wider input."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.oip import open_inference_pb2 as oip
from load.generator.closed_loop import Target
from load.generator.flight_requests import vector_message
from load.scenarios.scaling.table import Table
from load.systems.headrace import Running, Setup, command, configuration, headrace

# Of all messages together; distinct ones as far as they fit into it.
_BYTES, _DISTINCT = 64 << 20, 20_000
_TOLERANCE = 1e-4


def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    table = Table("payload", options)
    print(configuration(Setup(options.home, options.shapes[0])))
    print("a mean over one row of float32: what is measured is the way of the bytes, not the model")
    table.begin()
    documents = [_document(kib) for kib in options.kib]
    _add_models(options.home, options.kib)
    for shape in options.shapes:
        with headrace(Setup(options.home, shape, documents=documents)) as running:
            for kib in options.kib:
                table.add(f"{kib} KiB", running, _target(running, kib))
    table.end()


def _name(kib: int) -> str:
    return f"load_wide_{kib}"


def _width(kib: int) -> int:
    return kib * 256


def _document(kib: int) -> Mapping[str, Any]:
    """The model alone, as a pipeline."""
    output = {"column": "mean", "type": "float32", "shape": [1]}
    stage = {"model": "mean", "name": _name(kib), "inputs": {"input": "input"}, "outputs": {"mean": output}}
    return {
        "pipeline": _name(kib),
        "version": 1,
        "description": f"The mean of {kib} KiB",
        "deadline_ms": 5000,
        "inputs": {"input": {"type": "float32", "shape": [_width(kib)]}},
        "stages": [stage],
        "outputs": ["mean"],
    }


def _add_models(home: Path, sizes: Sequence[int]) -> None:
    """Those that the home's repository lacks; releases name them, so they stay."""
    for kib in sizes:
        if not (home / "models" / _name(kib)).exists():
            file = home / f"{_name(kib)}.onnx"
            file.write_bytes(_onnx(kib))
            command(home, "models", "add", _name(kib), str(file), "--yes")
            file.unlink()


def _onnx(kib: int) -> bytes:
    """`input` float32 (N, width) → `mean` float32 (N, 1)."""
    from onnx import TensorProto, checker, helper

    node = helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1], keepdims=1)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", _width(kib)])
    made = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 1])
    graph = helper.make_graph([node], _name(kib), [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="headrace")
    model.ir_version = 8
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _target(running: Running, kib: int) -> Target:
    width = _width(kib)
    count = min(max(_BYTES // (kib << 10), 8), _DISTINCT)
    random = np.random.default_rng(kib)
    inputs = random.uniform(0, 1, (count, width)).astype("<f4")
    messages = [vector_message(_name(kib), row, [1, width]) for row in inputs]
    [key] = running.keys.values()
    return Target(running.target, messages, key, running.pids, lambda replies: _verified(inputs, replies))


def _verified(inputs: NDArray[np.float32], replies: Mapping[int, bytes]) -> str:
    """Raises SystemExit at a wrong mean."""
    for i, reply in replies.items():
        got = np.frombuffer(oip.ModelInferResponse.FromString(reply).raw_output_contents[0], "<f4")[0]
        wanted = inputs[i].mean(dtype=np.float64)
        if abs(got - wanted) > _TOLERANCE:
            raise SystemExit(f"a wrong answer: the mean of {inputs.shape[1]} numbers is {wanted}, not {got}")
    return "means verified"
