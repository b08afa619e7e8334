"""The parts of a preparation: features into Feast, models into the repository."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import pandas as pd
import sklearn  # type: ignore[import-untyped]  # ships no types

from deploy.pipelines.flights import baselines, exporting, training
from deploy.pipelines.flights.baselines import baseline
from deploy.pipelines.flights.exporting import to_onnx
from deploy.pipelines.flights.feature_repo import SERVICE
from deploy.pipelines.flights.feature_store import Tables, create, shifted, tables, write_tables
from deploy.pipelines.flights.sampling import requests, write_requests
from deploy.pipelines.flights.sources import Sources
from deploy.pipelines.flights.training import RECIPES, Examples, Recipe, examples, train
from deploy.pipelines.preparation import Models, Report, code_sha256
from headrace.columns import DType
from headrace.drift import publication_of
from headrace.featurestore.writer import materialize
from headrace.repository import TensorSpec


def prepare_features(home: Path, loaded: Sources, redis: str, now: datetime, report: Report) -> Tables:
    """Writes the feature tables, registers them and fills the online store; returns them with the original event times.

    Event times are moved so that the data ends at `now`, because times to live are enforced. Month, weekday and hour
    are inputs of the request, not derived from event times, so the move does not change them.
    """
    report("working out histories", 0, 1)
    frames = tables(loaded)
    write_tables(shifted(frames, pd.Timestamp(now) - loaded.ends_at), home / "data")
    write_requests(requests(loaded, frames), home / "data" / "requests.jsonl")
    report("working out histories", 1, 1)
    store = create(home / "feast", home / "data", redis)
    materialize(
        store, now, progress=lambda _view, done, total: report("filling the online store", done, total)
    )
    return frames


def prepare_models(home: Path, loaded: Sources, frames: Tables, now: datetime, report: Report) -> None:
    """Trains the models and publishes each, signed, as the next version; skips a model that would be the same again."""
    data = examples(
        loaded, frames, lambda done, total: report("joining flights with what was known", done, total)
    )
    models = Models(home)
    for i, (name, recipe) in enumerate(RECIPES.items()):
        report("training models", i, len(RECIPES))
        made_from = _made_from(recipe, data)
        if models.made_from(name) == made_from:
            continue
        trained = train(recipe, data)
        inputs = [TensorSpec("input", DType.FLOAT32, (data.learn.shape[1],))]
        outputs = [TensorSpec("probabilities", DType.FLOAT32, (2,))]
        files, about = publication_of(baseline(data, trained), inputs, outputs)
        models.publish(
            name,
            to_onnx(name, trained),
            made_from,
            inputs=inputs,
            outputs=outputs,
            files=files,
            baseline=about,
            metrics=trained.metrics,
            trained_on=data.trained_on,
            extra={"feature_service": SERVICE, "created": now.isoformat(timespec="seconds")},
        )
    report("training models", len(RECIPES), len(RECIPES))


def _made_from(recipe: Recipe, data: Examples) -> str:
    """SHA-256 of all that a network depends on: training data, code, recipe and the library's version."""
    code = code_sha256([Path(str(module.__file__)) for module in (training, exporting, baselines)])
    digest = hashlib.sha256(f"{recipe} {sklearn.__version__} {code}".encode())
    for array in (data.learn, data.learn_late, data.judge, data.judge_late):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
