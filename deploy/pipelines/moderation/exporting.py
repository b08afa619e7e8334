"""Adds the normalisation to the graph of Yahoo's open_nsfw: its input is uint8 pixels, a quarter of the bytes on each hop."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Blue, green, red: the means of its training images.
MEANS = (104.0, 117.0, 123.0)
SIDE = 224


def with_normalisation(content: bytes) -> bytes:
    """An ONNX model from `input`, uint8 (N, 224, 224, 3) in BGR, to `scores`, float32 (N, 2): safe, not safe."""
    model = onnx.load_from_string(content)
    graph = model.graph
    (before,), (after,) = graph.input, graph.output
    for node in graph.node:
        node.output[:] = ["scores" if name == after.name else name for name in node.output]
        node.input[:] = ["scores" if name == after.name else name for name in node.input]
    nodes = [
        helper.make_node("Cast", ["input"], ["input_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["input_float", "means"], [before.name]),
        *graph.node,
    ]
    made = helper.make_graph(
        nodes,
        "open_nsfw",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 2])],
        [*graph.initializer, numpy_helper.from_array(np.array(MEANS, np.float32), "means")],
    )
    whole = helper.make_model(
        made, opset_imports=model.opset_import, ir_version=model.ir_version, producer_name="headrace"
    )
    onnx.checker.check_model(whole, full_check=True)
    return bytes(whole.SerializeToString())
