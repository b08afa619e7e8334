"""Small real ONNX models, in a real repository."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from headrace.columns import DType
from headrace.repository import Metadata, TensorSpec, publish

X = TensorSpec("x", DType.FLOAT32, (3,))
Y = TensorSpec("y", DType.FLOAT32, (3,))


def onnx_bytes(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def doubling(rows: int | str = "rows", width: int = 3, dtype: int = TensorProto.FLOAT) -> bytes:
    """y = x + x."""
    x, y = (helper.make_tensor_value_info(n, dtype, [rows, width]) for n in "xy")
    return onnx_bytes(helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y]))


def scaling(factor: float, padding: int = 0) -> bytes:
    """y = factor · x; `padding`: bytes of weights that the answer does not depend on."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 3]) for n in "xy")
    ballast = np.zeros(max(padding // 4, 1), np.float32)
    constants = [
        helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
        helper.make_tensor("ballast", TensorProto.FLOAT, ballast.shape, ballast.tobytes(), raw=True),
    ]
    nodes = [
        helper.make_node("ReduceSum", ["ballast"], ["nothing"], keepdims=0),
        helper.make_node("Add", ["factor", "nothing"], ["sum"]),
        helper.make_node("Mul", ["x", "sum"], ["y"]),
    ]
    return onnx_bytes(helper.make_graph(nodes, "scaling", [x], [y], constants))


def lookup(entries: int = 4, nan: int = 0) -> bytes:
    """y = row `x` of a table of so many, the last of them NaN: an index outside it makes the engine raise."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["rows"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 2])
    values = [float("nan") if i >= 2 * (entries - nan) else float(i) for i in range(2 * entries)]
    table = helper.make_tensor("table", TensorProto.FLOAT, [entries, 2], values)
    node = helper.make_node("Gather", ["table", "x"], ["y"])
    return onnx_bytes(helper.make_graph([node], "lookup", [x], [y], [table]))


def loop_body(operator: str, dtype: int, shape: list[int]) -> onnx.GraphProto:
    """One round of a loop: state = operator(state, state)."""
    nodes = [
        helper.make_node(operator, ["state", "state"], ["state_out"]),
        helper.make_node("Identity", ["go_on"], ["go_on_out"]),
    ]
    info = helper.make_tensor_value_info
    round_, go_on = info("round", TensorProto.INT64, []), info("go_on", TensorProto.BOOL, [])
    outputs = [info("go_on_out", TensorProto.BOOL, []), info("state_out", dtype, shape)]
    return helper.make_graph(nodes, "body", [round_, go_on, info("state", dtype, shape)], outputs)


def later(name: str, nodes: list[onnx.NodeProto], *constants: onnx.TensorProto, dtype: int = 0) -> bytes:
    """y = x + `added`, once these nodes have made that; of a row of whole numbers if `dtype` says so."""
    shape: list[str | int] = ["rows"] if dtype else ["rows", 3]
    x, y = (helper.make_tensor_value_info(n, dtype or TensorProto.FLOAT, shape) for n in "xy")
    nodes = [*nodes, helper.make_node("Add", ["x", "added"], ["y"])]
    return onnx_bytes(helper.make_graph(nodes, name, [x], [y], constants))


def slow(loops: int) -> bytes:
    """y = x after `loops` rounds of a multiplication of two 64 × 64 matrices: about 20 µs a round."""
    body = loop_body("MatMul", TensorProto.FLOAT, [64, 64])
    nodes = [
        helper.make_node("Loop", ["loops", "", "start"], ["end"], body=body),
        helper.make_node("ReduceSum", ["end"], ["added"], keepdims=0),
    ]
    rounds = helper.make_tensor("loops", TensorProto.INT64, [], [loops])
    return later(
        "slow", nodes, rounds, helper.make_tensor("start", TensorProto.FLOAT, [64, 64], [0.0] * 64**2)
    )


def counting() -> bytes:
    """y = x, after as many rounds of a loop as the greatest x says."""
    body = loop_body("Add", TensorProto.INT64, [])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["rounds"], keepdims=0),
        helper.make_node("Loop", ["rounds", "", "start"], ["added"], body=body),
    ]
    start = helper.make_tensor("start", TensorProto.INT64, [], [0])
    return later("counting", nodes, start, dtype=TensorProto.INT64)


def endless() -> bytes:
    """y = x, after a loop that never ends."""
    body = loop_body("Mul", TensorProto.FLOAT, [])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["start"], keepdims=0),
        helper.make_node("Loop", ["", "true", "start"], ["added"], body=body),
    ]
    return later("endless", nodes, helper.make_tensor("true", TensorProto.BOOL, [], [True]))


def expanding(exponent: int = 38) -> bytes:
    """y = x plus a sum of 2 ** exponent numbers, of four bytes each."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["one"], keepdims=0),
        helper.make_node("Expand", ["one", "shape"], ["many"]),
        helper.make_node("ReduceSum", ["many"], ["added"], keepdims=0),
    ]
    return later("expanding", nodes, helper.make_tensor("shape", TensorProto.INT64, [1], [1 << exponent]))


def put(
    root: Path, name: str = "double", version: str = "1", content: bytes | None = None, **spec: object
) -> Metadata:
    """Publishes a model, `doubling` unless told otherwise."""
    inputs, outputs = spec.pop("inputs", [X]), spec.pop("outputs", [Y])
    return publish(root, name, version, content or doubling(), inputs=inputs, outputs=outputs, **spec)  # type: ignore[arg-type]  # tests hand on what they mean


def put_lookup(root: Path, name: str = "lookup") -> None:
    """Publishes `lookup`."""
    inputs, outputs = [TensorSpec("x", DType.INT64)], [TensorSpec("y", DType.FLOAT32, (2,))]
    put(root, name, content=lookup(), inputs=inputs, outputs=outputs)
