"""Prepares the example: its two models in the home's repository, and labelled flights to tune and to judge by.

    .venv/bin/python -m deploy.examples.flights_cascade.prepare --home .headrace

`headrace up` does not run it. Progress goes to stdout as of the other preparations. Running it again trains only if the code or
the data changed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deploy.pipelines.flights import sources
from deploy.pipelines.preparation import Models, Report, alone, code_sha256, input_stages, tell
from headrace.state import atomic

HERE = Path(__file__).parent
DOCUMENT = HERE / "pipeline.yaml"
LIGHT, HEAVY = "flights_cascade_light", "flights_cascade_heavy"
# Labelled flights: every other one of November and December.
TUNE, JUDGE = "flights_cascade_tune.jsonl", "flights_cascade_judge.jsonl"
_TOLERANCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the example of a cascade.")
    parser.add_argument("--home", type=Path, default=Path(".headrace"), help="where everything is written")
    prepare(parser.parse_args().home.resolve(), tell)


def prepare(home: Path, report: Report) -> None:
    """Trains and publishes both models, and writes the labelled flights, if that is due."""
    with alone(home, report):
        models = Models(home)
        made_from = _made_from()
        data = home / "data"
        due = [name for name in (LIGHT, HEAVY) if models.made_from(name) != made_from]
        if not due and all((data / name).exists() for name in (TUNE, JUDGE)):
            report("flights_cascade is prepared", 1, 1)
            return
        began = time.monotonic()
        _prepare(models, data, made_from, report)
        report(f"flights_cascade is prepared (in {time.monotonic() - began:.0f} s)", 1, 1)


def _prepare(models: Models, data: Path, made_from: str, report: Report) -> None:
    from deploy.examples.flights_cascade import exporting, training
    from deploy.pipelines.flights.exporting import to_onnx
    from deploy.pipelines.flights.feature_store import tables
    from deploy.pipelines.flights.training import metrics
    from deploy.pipelines.flights.transforming import model_inputs

    report("reading a year of flights", 0, 4)
    loaded = sources.load()
    report("joining flights with what was known", 1, 4)
    found = training.examples(loaded, tables(loaded))
    learn, judge = (model_inputs(f, DOCUMENT) for f in (found.learn, found.judge))
    outcome, later = (f["late"].to_numpy(bool) for f in (found.learn, found.judge))
    report("training models", 2, 4)
    light = training.train_light(learn, outcome)
    bags = training.train_heavy(learn, outcome)
    report("publishing models", 3, 4)
    wanted = training.heavy_says(bags, judge)
    for name, content in (
        (LIGHT, to_onnx(LIGHT, light)),
        (HEAVY, exporting.to_onnx(HEAVY, bags, learn.shape[1])),
    ):
        says = _says(content, judge)
        if name == HEAVY and not np.abs(says - wanted).max() <= _TOLERANCE:
            raise SystemExit(f"{name}: the exported model does not say what the trained one does")
        _publish(models, name, content, metrics(says, later), found.trained_on, made_from)
    rows = found.judge.reset_index(drop=True)
    data.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate((TUNE, JUDGE)):
        _write(rows.iloc[i::2], data / name)


def _says(content: bytes, inputs: Any) -> Any:
    import onnxruntime  # type: ignore[import-untyped]  # ships no types

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": inputs})[0][:, 1]


def _publish(
    models: Models,
    name: str,
    content: bytes,
    metrics: Mapping[str, float],
    trained_on: dict[str, Any],
    made_from: str,
) -> None:
    from headrace.columns import DType
    from headrace.repository import TensorSpec

    if models.made_from(name) == made_from:
        return
    models.publish(
        name,
        content,
        made_from,
        inputs=[TensorSpec("input", DType.FLOAT32, (24,))],
        outputs=[TensorSpec("probabilities", DType.FLOAT32, (2,))],
        metrics=dict(metrics),
        trained_on=trained_on,
    )


def _write(rows: Any, path: Path) -> None:
    """Inputs, features and label of each flight, a JSON object a line."""
    from deploy.pipelines.flights.feature_repo import VIEWS
    from deploy.pipelines.flights.sampling import FIELDS

    features = [f for _, _, names in VIEWS.values() for f in names]
    frame = rows[[*FIELDS, *features, "late"]]
    # NaN, which JSON does not have: there was no value.
    lines = [{k: None if v != v else v for k, v in row.items()} for row in frame.to_dict("records")]
    atomic.write(path, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _made_from() -> str:
    """SHA-256 of the code and the data that the models depend on."""
    flights = Path(sources.__file__).parent
    names = (
        "sources",
        "history",
        "feature_repo",
        "feature_store",
        "joining",
        "training",
        "transforming",
        "exporting",
    )
    files = [HERE / f"{n}.py" for n in ("training", "exporting")]
    code = code_sha256([*files, *(flights / f"{n}.py" for n in names)])
    return hashlib.sha256((sources.fingerprint() + code + input_stages(DOCUMENT)).encode()).hexdigest()


if __name__ == "__main__":
    main()
