"""Run in MLflow's own environment: logs a small ONNX model to the server named by the first argument."""

import sys

import mlflow  # type: ignore[import-not-found,unused-ignore]  # lives in an environment of its own
from onnx import TensorProto, helper

mlflow.set_tracking_uri(sys.argv[1])
x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 3]) for n in "xy")
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
with mlflow.start_run():
    mlflow.log_metric("auc", 0.75)
    mlflow.log_param("depth", 3)
    mlflow.onnx.log_model(model, name="model", registered_model_name="double")
mlflow.MlflowClient().set_registered_model_alias("double", "champion", 1)
