"""The example of a cascade: the exported trees say what the trained ones do, the document fits them."""

import json
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # ships no types
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]  # ships no types

from deploy.examples.flights_cascade import exporting, training
from deploy.examples.flights_cascade.prepare import DOCUMENT, HEAVY, LIGHT
from deploy.pipelines.flights.exporting import to_onnx
from deploy.pipelines.flights.feature_repo import TIME
from deploy.pipelines.flights.joining import historical
from deploy.pipelines.flights.transforming import DOCUMENT as FLIGHTS
from deploy.pipelines.flights.transforming import model_inputs
from headrace.columns import DType
from headrace.pipeline import CascadeStage, ColumnType, ModelSignature, check, load
from tests.pipeline.flights_data import flights


def examples(rows: int, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(0, 10, (rows, 24)).astype(np.float32)
    return inputs, inputs[:, 1] * inputs[:, 2] + rng.normal(0, 30, rows) > 0


def says(content: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"input": inputs})
    assert found.shape == (len(inputs), 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    return np.asarray(found[:, 1], np.float64)


def test_the_exported_models_say_what_the_trained_ones_do() -> None:
    inputs, outcome = examples(600)
    bags = training.train_heavy(inputs, outcome)
    heavy = says(exporting.to_onnx(HEAVY, bags, 24), inputs)
    np.testing.assert_allclose(heavy, training.heavy_says(bags, inputs), atol=1e-5)
    assert roc_auc_score(outcome, heavy) > 0.9
    light = training.train_light(inputs, outcome)
    [(weights, _)] = light.layers
    said = says(to_onnx(LIGHT, light), inputs)
    assert 0.3 < roc_auc_score(outcome, said) < 0.7  # a line knows nothing of a product
    assert weights[0] == 0
    moved = inputs.copy()
    moved[:, 0] += 100
    np.testing.assert_array_equal(says(to_onnx(LIGHT, light), moved), said)


def test_the_document_fits_its_models_and_makes_the_inputs_of_flights() -> None:
    document = load(DOCUMENT)
    [stage] = [s for s in document.stages if isinstance(s, CascadeStage)]
    assert (stage.light.model, stage.heavy.model) == (LIGHT, HEAVY)
    signature = ModelSignature(
        {"input": ColumnType(DType.FLOAT32, (24,))}, {"probabilities": ColumnType(DType.FLOAT32, (2,))}
    )
    assert check(document, {LIGHT: signature, HEAVY: signature}, None) == []
    year = flights().sources.flights.rename(columns={"asked_at": TIME})
    joined = historical(flights().tables, year.sample(50, random_state=3))
    np.testing.assert_array_equal(model_inputs(joined, DOCUMENT), model_inputs(joined, FLIGHTS))


def test_the_decision_is_that_of_the_verdict() -> None:
    """Rows are unsure about the threshold at which the verdict changes."""
    document = load(DOCUMENT)
    [stage] = [s for s in document.stages if isinstance(s, CascadeStage)]
    [verdict] = [
        json.loads(s.spec_json) for s in document.stages if s.name == "verdict" and hasattr(s, "spec_json")
    ]
    [at] = [step["threshold"]["at"] for step in verdict["steps"] if "threshold" in step]
    assert stage.unsure.decision == at


def test_the_example_is_not_among_the_pipelines_that_are_served() -> None:
    served = {path.parent.name for path in (Path(FLIGHTS).parents[1]).glob("*/pipeline.yaml")}
    assert "flights_cascade" not in served
