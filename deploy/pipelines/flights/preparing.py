"""The parts of a preparation: features into Feast, models into the repository."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pandas as pd

from deploy.pipelines.flights.exporting import to_onnx
from deploy.pipelines.flights.feature_repo import SERVICE
from deploy.pipelines.flights.feature_store import Tables, create, materialize, shifted, tables, write_tables
from deploy.pipelines.flights.sampling import requests, write_requests
from deploy.pipelines.flights.sources import Sources
from deploy.pipelines.flights.training import RECIPES, examples, train
from headrace.columns import DType
from headrace.repository import TensorSpec, publish

Report = Callable[[str, int, int], None]


def prepare_features(home: Path, loaded: Sources, redis: str, now: datetime, report: Report) -> Tables:
    """Writes the feature tables, registers them and fills the online store; returns them in their original times.

    Event times are moved so that the data ends at `now`, because times to live are enforced. Month, weekday and hour
    are inputs of the request, not made from event times, so they keep their meaning under any move.
    """
    report("working out histories", 0, 1)
    frames = tables(loaded)
    write_tables(shifted(frames, pd.Timestamp(now) - loaded.ends_at), home / "data")
    write_requests(requests(loaded, frames), home / "data" / "requests.jsonl")
    report("working out histories", 1, 1)
    store = create(home / "feast", home / "data", redis)
    materialize(store, now, lambda done, total: report("filling the online store", done, total))
    return frames


def prepare_models(home: Path, loaded: Sources, frames: Tables, now: datetime, report: Report) -> None:
    """Trains the models and publishes each as the next version."""
    data = examples(
        loaded, frames, lambda done, total: report("joining flights with what was known", done, total)
    )
    for i, (name, recipe) in enumerate(RECIPES.items()):
        report("training models", i, len(RECIPES))
        trained = train(recipe, data)
        publish(
            home / "models",
            name,
            _next_version(home / "models" / name),
            to_onnx(name, trained),
            inputs=[TensorSpec("input", DType.FLOAT32, (data.learn.shape[1],))],
            outputs=[TensorSpec("probabilities", DType.FLOAT32, (2,))],
            metrics=trained.metrics,
            trained_on=data.trained_on,
            extra={"feature_service": SERVICE, "created": now.isoformat(timespec="seconds")},
        )
    report("training models", len(RECIPES), len(RECIPES))


def _next_version(folder: Path) -> str:
    """A published version never changes, so a model that is trained anew gets a new one."""
    taken = [int(p.name) for p in folder.glob("*") if p.name.isdecimal()]
    return str(max(taken, default=0) + 1)
