"""The columns of a reply: all features of one stored type together, then the ages and the sources of all views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.columns.wire import joined_column, split_columns
from services.features.cache.column_table import MANY_ROWS
from services.features.freshness.freshness import ViewResult
from services.features.plan.plan import ServicePlan
from services.features.reply.values import FloatPacker, Packed, Packer


@dataclass(slots=True)
class ColumnGroup:
    """Columns of one stored type, one after the other. `given`: per view of the plan, which features they hold, in order;
    `picks`: what takes these from a view's features.

    `whole`: whether these views have only features of this type, and the returned ones are the first of each view.
    """

    dtype: DType
    packer: Packer
    names: list[str]
    given: dict[int, list[int]]
    picks: list[tuple[int, Callable[[Any], Any]]] = field(default_factory=list)
    whole: bool = False


class ReplyBuilder:
    """Builds the columns of one plan's replies. The layout is computed once; a reply then needs only a few joins."""

    def __init__(self, plan: ServicePlan) -> None:
        self.views = [i for i, count in enumerate(plan.given_counts) if count >= 0]
        groups: dict[Packer, ColumnGroup] = {}
        given = list(zip(self.views, plan.given, strict=True))
        for i, (view, features) in given:
            for k, (feature, packer) in enumerate(zip(features, view.packers, strict=False)):
                assert feature.dtype is not None, (
                    "the servicer refuses plans with features that no column can hold"
                )
                group = groups.setdefault(packer, ColumnGroup(feature.dtype, packer, [], {}))
                group.names.append(feature.name)
                group.given.setdefault(i, []).append(k)
        self.groups = list(groups.values())
        for group in self.groups:
            group.picks = [(i, _picker(features)) for i, features in group.given.items()]
            group.whole = all(
                i < len(plan.views) and plan.views[i].floats is group.packer for i in group.given
            )
        self.age_names = [f"@age_us/{view.name}" for _, (view, _) in given]
        self.source_names = [f"@source/{view.name}" for _, (view, _) in given]

    def features(self, results: Sequence[ViewResult]) -> list[tuple[ColumnGroup, Packed]]:
        """Each group with its values: all values of the first column, then those of the second, and so on."""
        return [
            (group, self._matrices(group, results) or self._one_by_one(group, results))
            for group in self.groups
        ]

    def columns(self, results: Sequence[ViewResult], rows: int) -> dict[str, Column]:
        """The whole reply as columns of `rows` rows, for a caller in the same process."""
        found: dict[str, Column] = {}
        for group, packed in self.features(results):
            whole = joined_column(group.names[0], group.dtype, packed, rows * len(group.names))
            found |= split_columns(whole, group.names, rows)
        if self.age_names:
            ages, sources = self._ages(results), np.frombuffer(self.sources(results), np.uint8)
            found |= split_columns(Column(self.age_names[0], DType.INT64, ages), self.age_names, rows)
            found |= split_columns(
                Column(self.source_names[0], DType.UINT8, sources), self.source_names, rows
            )
        return found

    @staticmethod
    def _matrices(group: ColumnGroup, results: Sequence[ViewResult]) -> Packed | None:
        """Packs floats of many rows with a few NumPy calls for the whole group. None if this is not possible."""
        if not group.whole or len(results[0].sources) < MANY_ROWS:
            return None
        matrices = [matrix for i in group.given if (matrix := results[i].floats()) is not None]
        if len(matrices) < len(group.given):
            return None
        return FloatPacker.pack_matrices(matrices, list(map(len, group.given.values())))

    @staticmethod
    def _one_by_one(group: ColumnGroup, results: Sequence[ViewResult]) -> Packed:
        raws: list[bytes] = []
        for i, pick in group.picks:
            raws += chain.from_iterable(pick(results[i].by_feature()))
        return group.packer(raws)

    def ages(self, results: Sequence[ViewResult]) -> bytes:
        """INT64 microseconds of all views, one after the other."""
        return self._ages(results).tobytes()

    def _ages(self, results: Sequence[ViewResult]) -> NDArray[np.int64]:
        return np.concatenate([results[i].ages_us for i in self.views]).astype("<i8", copy=False)

    def sources(self, results: Sequence[ViewResult]) -> bytes:
        """UINT8 of all views, one after the other."""
        return b"".join([results[i].sources for i in self.views])


def _picker(positions: Sequence[int]) -> Callable[[Any], Any]:
    """Takes the elements at these ascending positions."""
    start, stop = positions[0], positions[-1] + 1
    return itemgetter(slice(start, stop)) if stop - start == len(positions) else itemgetter(*positions)
