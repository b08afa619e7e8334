"""Exports a trained network to ONNX, with standard operators that every backend can run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploy.pipelines.flights.training import Floats, Trained

_OPSET = 17
# The oldest version with this opset: a runtime refuses files of a newer version than its own.
_IR_VERSION = 8


def to_onnx(name: str, trained: Trained) -> bytes:
    """An ONNX model: `input` float32 (N, features) → `probabilities` float32 (N, 2): on time, late. It includes the scaling."""
    constants = {"mean": trained.mean, "scale": trained.scale}
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["hidden_0"]),
    ]
    *inner, last = trained.layers
    for i, (weights, biases) in enumerate(inner):
        constants |= {f"weights_{i}": weights, f"biases_{i}": biases}
        nodes += [
            helper.make_node("Gemm", [f"hidden_{i}", f"weights_{i}", f"biases_{i}"], [f"sum_{i}"]),
            helper.make_node("Relu", [f"sum_{i}"], [f"hidden_{i + 1}"]),
        ]
    # softmax(0, z) is (1 − sigmoid(z), sigmoid(z)): both columns in one operator.
    constants |= {
        "weights_out": np.column_stack([np.zeros_like(last[0]), last[0]]),
        "biases_out": np.concatenate([np.zeros_like(last[1]), last[1]]),
    }
    nodes += [
        helper.make_node("Gemm", [f"hidden_{len(inner)}", "weights_out", "biases_out"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    features = len(trained.mean)
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(_float32(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="headrace"
    )
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _float32(values: Floats) -> Floats:
    return np.ascontiguousarray(values, np.float32)
