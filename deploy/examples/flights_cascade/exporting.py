"""Exports ensembles of trees to ONNX: one operator for all trees, a sigmoid for each ensemble, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]  # ships no types

_OPSET, _ML_OPSET, _IR_VERSION = 17, 3, 8
_LEAF, _BRANCH = "LEAF", "BRANCH_LEQ"


def to_onnx(name: str, bags: Sequence[HistGradientBoostingClassifier], features: int) -> bytes:
    """An ONNX model: `input` float32 (N, features) → `probabilities` float32 (N, 2): the means over the ensembles."""
    trees = helper.make_node(
        "TreeEnsembleRegressor", ["input"], ["raw"], domain="ai.onnx.ml", **_attributes(bags)
    )
    nodes = [
        trees,
        helper.make_node("Sigmoid", ["raw"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["late"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "late"], ["on_time"]),
        helper.make_node("Concat", ["on_time", "late"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="headrace")
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _attributes(bags: Sequence[HistGradientBoostingClassifier]) -> dict[str, Any]:
    """The trees of all ensembles; ensemble i adds up in target i."""
    found: dict[str, list[Any]] = {
        "nodes_treeids": [],
        "nodes_nodeids": [],
        "nodes_featureids": [],
        "nodes_values": [],
        "nodes_modes": [],
        "nodes_truenodeids": [],
        "nodes_falsenodeids": [],
        "target_treeids": [],
        "target_nodeids": [],
        "target_ids": [],
        "target_weights": [],
    }
    for tree, (target, nodes) in enumerate(_trees(bags)):
        leaf = nodes["is_leaf"].astype(bool)
        count = len(nodes)
        found["nodes_treeids"] += [tree] * count
        found["nodes_nodeids"] += range(count)
        found["nodes_featureids"] += np.where(leaf, 0, nodes["feature_idx"]).tolist()
        found["nodes_values"] += np.where(leaf, 0, _not_above(nodes["num_threshold"])).tolist()
        found["nodes_modes"] += [_LEAF if is_leaf else _BRANCH for is_leaf in leaf.tolist()]
        found["nodes_truenodeids"] += np.where(leaf, 0, nodes["left"]).tolist()
        found["nodes_falsenodeids"] += np.where(leaf, 0, nodes["right"]).tolist()
        leaves = np.flatnonzero(leaf)
        found["target_treeids"] += [tree] * len(leaves)
        found["target_nodeids"] += leaves.tolist()
        found["target_ids"] += [target] * len(leaves)
        found["target_weights"] += nodes["value"][leaves].tolist()
    # scikit-learn keeps both in private fields; the preparation compares what was exported with its own predictions.
    bases = [float(np.ravel(bag._baseline_prediction)[0]) for bag in bags]
    return {**found, "n_targets": len(bags), "base_values": bases, "post_transform": "NONE"}


def _trees(bags: Sequence[HistGradientBoostingClassifier]) -> Iterable[tuple[int, Any]]:
    for target, bag in enumerate(bags):
        for iteration in bag._predictors:
            for predictor in iteration:
                yield target, predictor.nodes


def _not_above(thresholds: Any) -> Any:
    """float32 that are not above the float64 thresholds: a float32 is at most one if and only if it is at most the other."""
    finite = np.where(np.isfinite(thresholds), thresholds, 0.0)
    narrow = finite.astype(np.float32)
    return np.where(narrow > finite, np.nextafter(narrow, np.float32(-np.inf)), narrow)
