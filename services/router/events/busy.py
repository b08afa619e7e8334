"""How long the services worked for a batch, from the timings that they report."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType, Timing
from headrace.events import BUSY_OF, BUSY_US
from services.router.events.ring import AnsweredBatch

# What the executor calls its work; the other leaves name it like themselves. Their other timings are waits, or within these.
_RUN = "run"
_MODEL, _VERSION = "model.name", "model.version"
# Stages and models of documents: few.
_MAX_NAMES = 4096


def busy(timings: Iterable[Timing]) -> dict[str, tuple[float, int]]:
    """By service (the executor's by `executor/MODEL:VERSION`): µs of work for the rows of this batch, and how many were sent.

    A run may have been for rows of other batches too, and a call may have taken several runs: so the mean time of a row counts,
    as often as the stage's own timing says that rows were sent.
    """
    found: dict[str, tuple[float, int]] = {}
    # A stage's own timing comes before those of its callee. By stage: that timing, its runs so far, and their mean.
    latest: dict[str, tuple[Timing, int, float]] = {}
    for timing in timings:
        stage, work = _parsed(timing.stage, timing.service)
        if not work or stage not in latest:
            latest[timing.stage] = timing, 0, 0.0
            continue
        own, runs, mean = latest[stage]
        spent = timing.duration_us / max(timing.row_count, 1) * own.row_count
        new_mean = mean + (spent - mean) / (runs + 1)
        latest[stage] = own, runs + 1, new_mean
        name = timing.service
        if work == _RUN and (model := own.attributes.get(_MODEL)) is not None:
            name = f"{name}/{model}:{own.attributes.get(_VERSION, '')}"
        us, rows = found.get(name, (0.0, 0))
        found[name] = us - mean + new_mean, rows if runs else rows + own.row_count
    return found


def busy_fields(
    parts: Sequence[AnsweredBatch], counts: NDArray[np.int64], cached: NDArray[np.bool_]
) -> Generator[None, None, list[Column]]:
    """A field of events (`fields.py`): what the services worked for each row."""
    worked = []
    for part in parts:
        worked.append(busy(part.timings))
        yield
    return busy_columns(worked, counts, cached)


def busy_columns(
    batches: Sequence[Mapping[str, tuple[float, int]]], counts: NDArray[np.int64], cached: NDArray[np.bool_]
) -> list[Column]:
    """What the services worked for each row, in all and each by itself. For a kept answer, only those before the cache did.

    `batches`: what `busy` says of each batch; `counts`: its rows; `cached`: rows of all batches with kept answers.
    """
    lengths = counts.tolist()
    computed = lengths
    if cached.any():
        computed = np.add.reduceat((~cached).astype(np.int64), np.cumsum(counts) - counts).tolist()
    # By name and batch: of its rows with kept answers, and of the others.
    found: dict[str, tuple[list[float], list[float]]] = {}
    for i, worked in enumerate(batches):
        for name, (us, sent) in worked.items():
            kept, made = found.setdefault(name, ([0.0] * len(lengths), [0.0] * len(lengths)))
            if sent > computed[i]:
                kept[i] = made[i] = us / lengths[i]
            else:
                made[i] = us / max(computed[i], 1)
    rows: dict[str, NDArray[np.float64]] = {}
    for name, (kept, made) in found.items():
        rows[name] = np.repeat(np.array(made), counts)
        if computed is not lengths:
            rows[name] = np.where(cached, np.repeat(np.array(kept), counts), rows[name])
    total = np.sum(list(rows.values()), axis=0) if rows else np.zeros(len(cached))
    return [
        Column(BUSY_US, DType.INT64, total.astype(np.int64)),
        *[Column(BUSY_OF + name, DType.FLOAT32, each.astype(np.float32)) for name, each in rows.items()],
    ]


@lru_cache(_MAX_NAMES)
def _parsed(stage: str, service: str) -> tuple[str, str]:
    """The stage that a timing is within, and the word for work if it is such; "": it is none."""
    within, _, last = stage.rpartition("/")
    return within, last if within and last in (_RUN, service) else ""
