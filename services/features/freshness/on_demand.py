"""Computes on-demand features from the features that were read and from columns of the request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from services.features.errors import missing_column, wrong_column
from services.features.freshness.freshness import Source, ViewResult
from services.features.plan.entity_keys import EntityKeys
from services.features.plan.plan import Feature, OnDemandPart, ServicePlan

if TYPE_CHECKING:
    from services.features.metrics import FeaturesMetrics

_TAKER = "an on-demand feature view"
# From the best to the worst: a feature computed from several rows gets the worst of their sources.
_RANKS = [Source.PRESENT, Source.STALE, Source.OUTSIDE_MAX_AGE, Source.NOT_FOUND, Source.DEFAULT]
_RANK_OF = bytes(_RANKS.index(Source(s)) if s in list(Source) else 0 for s in range(256))


class OnDemandRunner:
    """Calls the functions of on-demand views: functions that block run in `threads`, the others on the event loop."""

    def __init__(self, threads: ThreadPoolExecutor, metrics: FeaturesMetrics) -> None:
        self._threads = threads
        self._metrics = metrics

    async def derive(
        self, plan: ServicePlan, judged: Sequence[ViewResult], columns: Mapping[str, Column], rows: int
    ) -> list[ViewResult]:
        """One result per on-demand view of the plan. A row for which the function fails has no values, and source DEFAULT.

        Raises Fault INVALID_ARGUMENT for a request column that is missing or of another type.
        """
        if not plan.on_demand:
            return []
        request = {f.name: plain_values(columns.get(f.name), f) for f in plan.request}
        return [await self._one(derivation, judged, request, rows) for derivation in plan.on_demand]

    async def _one(
        self,
        derivation: OnDemandPart,
        judged: Sequence[ViewResult],
        request: Mapping[str, list[Any]],
        rows: int,
    ) -> ViewResult:
        derived, places, view = derivation
        features = {i: judged[i].by_feature() for i, _ in places}
        inputs = [features[i][j] for i, j in places]
        brought = [request[f.name] for f in derived.request]
        if derived.blocking:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, _transform, derivation, inputs, brought, rows)
        else:
            found = _transform(derivation, inputs, brought, rows)
        made_of = [judged[i] for i in dict.fromkeys(i for i, _ in places)]
        sources = bytearray(_worst([one.sources for one in made_of], rows))
        nothing = (b"",) * len(view.features)
        failed = [i for i, row in enumerate(found) if row is None]
        if failed:
            self._metrics.underived(view.name, len(failed))
            for i in failed:
                sources[i] = Source.DEFAULT
        # Computed values have no event times; there is one row for each of the batch.
        values = [(math.nan, nothing if row is None else row) for row in found]
        ages = _oldest([one.ages_us for one in made_of], rows)
        result = ViewResult(view, EntityKeys([], None), values)
        result.sources, result.ages_us = bytes(sources), ages
        return result


def _transform(
    derivation: OnDemandPart, inputs: Sequence[Sequence[bytes]], request: Sequence[Sequence[Any]], rows: int
) -> Sequence[tuple[bytes, ...] | None]:
    """The returned features of each row; None where the function fails."""
    derived, _, view = derivation
    shown = [derived.features.index(feature) for feature in view.features]
    try:
        found = derived.transform(inputs, request)
        return list(zip(*[_of_length(found[i], rows) for i in shown], strict=True))
    except Exception:  # noqa: BLE001 - the author's code may raise anything
        if rows == 1:
            return [None]
    # One bad row must not fail the other rows, which may come from other callers.
    parts = [
        _transform(derivation, [c[i : i + 1] for c in inputs], [c[i : i + 1] for c in request], 1)
        for i in range(rows)
    ]
    return [part[0] for part in parts]


def _of_length(values: list[bytes], rows: int) -> list[bytes]:
    if len(values) != rows:
        raise ValueError(f"{len(values)} values for {rows} rows")
    return values


def _worst(sources: Sequence[bytes], rows: int) -> bytes:
    if not sources:
        return bytes([Source.PRESENT]) * rows
    ranks = [s.translate(_RANK_OF) for s in sources]
    return bytes([_RANKS[max(row)] for row in zip(*ranks, strict=True)])


def _oldest(ages: Sequence[NDArray[np.int64]], rows: int) -> NDArray[np.int64]:
    """The age of each row's oldest input; −1 if the age of an input is not known, 0 if there are no inputs."""
    if not ages:
        return np.zeros(rows, np.int64)
    together = np.stack(ages)
    return np.where(together.min(0) >= 0, together.max(0), -1)


def plain_values(column: Column | None, wanted: Feature) -> list[Any]:
    """A request column's values; None for a row without a value. Raises Fault INVALID_ARGUMENT."""
    if column is None:
        raise missing_column(wanted.name, _TAKER)
    dtype = wanted.dtype
    text = dtype is DType.BYTES
    if column.row_shape or dtype is None or text != (column.dtype is DType.BYTES):
        raise wrong_column(column, _TAKER, (dtype or DType.BYTES).name.lower())
    if text:
        values: list[Any] = list(column.text()) if wanted.field == "string_val" else column.ragged.to_list()
    else:
        values = column.array.tolist()
    if column.valid is None:
        return values
    return [value if ok else None for value, ok in zip(values, column.valid.tolist(), strict=True)]
