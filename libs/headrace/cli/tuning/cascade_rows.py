"""Labelled rows of a cascade: both models run on each, and what their decisions cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from headrace.cli.tuning import cascade_curve as curves
from headrace.cli.tuning.cascade_curve import Labelled
from headrace.cli.tuning.offline_run import Models, OfflineError, model_columns
from headrace.columns import Batch
from headrace.pipeline import CascadeStage


def labelled_rows(stage: CascadeStage, batch: Batch, labels: NDArray[np.int64], models: Models) -> Labelled:
    """What both models' decisions cost for each row that did not fail. Raises OfflineError if none is left."""
    keep = np.flatnonzero(batch.ok())
    if not len(keep):
        reason = next(iter(batch.errors.values())).message
        raise OfflineError(f"every row fails before the stage; the first: {reason}")
    columns = {name: column.take(keep) for name, column in batch.columns.items()}
    unsure, kept = stage.unsure, labels[keep]
    light = model_columns(stage.light, columns, models)[unsure.score].array
    heavy = model_columns(stage.heavy, columns, models)[unsure.score].array
    always = np.zeros(len(keep), bool)
    for name, least in stage.valuable.items():
        always |= (columns[name].array >= least) & columns[name].is_valid()
    decided = [curves.decisions(scores, unsure.decision, unsure.element) for scores in (light, heavy)]
    light_cost, heavy_cost = (curves.costs(d, kept, unsure.decision) for d in decided)
    # A margin that is no number is never alone: no threshold lies below it.
    margins = np.nan_to_num(unsure.margins(light), nan=-1.0)
    return Labelled(margins, light_cost, heavy_cost, always, curves.cost_of(unsure.decision))
