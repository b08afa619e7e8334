"""A reply's columns: all features of one stored type together, then the ages and the sources of all views."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.columns import DType
from services.features.cache.column_table import MANY
from services.features.freshness.freshness import Judged, by_feature_of
from services.features.freshness.judging import JudgedColumns
from services.features.plan.plan import ServicePlan
from services.features.reply.values import Floats, Packed, Packer


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of one type, end to end: their names, and where each is (view of the plan, feature of the view).

    `whole`: by view, how many features are given of one that has no others; empty if the columns are not all of such.
    """

    dtype: DType
    names: list[str]
    places: list[tuple[int, int]]
    pack: Packer
    whole: dict[int, int]


class Form:
    """The columns of one plan's replies. Worked out once; a reply is then a few joins."""

    def __init__(self, plan: ServicePlan) -> None:
        self.views = [i for i, shown in enumerate(plan.given_counts) if shown >= 0]
        groups: dict[Packer, Group] = {}
        for i, (view, features) in zip(self.views, plan.given, strict=True):
            for k, (feature, pack) in enumerate(zip(features, view.packers, strict=False)):
                assert feature.dtype is not None, (
                    "the servicer refuses plans with features that no column can hold"
                )
                group = groups.setdefault(pack, Group(feature.dtype, [], [], pack, {}))
                group.names.append(feature.name)
                group.places.append((i, k))
        self.groups = list(groups.values())
        for group in self.groups:
            views = dict.fromkeys(i for i, _ in group.places)
            if isinstance(group.pack, Floats) and all(self._only(plan, i, group.pack) for i in views):
                group.whole.update({i: plan.given_counts[i] for i in views})
        names = [view.name for view, _ in plan.given]
        self.ages, self.sources = [f"@age_us/{n}" for n in names], [f"@source/{n}" for n in names]

    def features(self, judged: Sequence[Judged]) -> list[tuple[Group, Packed]]:
        """Each group with its values: those of the first column, of the second, and so on, in one."""
        return [
            (group, self._by_row(group, judged) or self._by_column(group, judged)) for group in self.groups
        ]

    @staticmethod
    def _only(plan: ServicePlan, i: int, pack: Packer) -> bool:
        """Whether a view of the plan has no values but those that `pack` packs."""
        return i < len(plan.views) and set(plan.views[i].packers) == {pack}

    @staticmethod
    def _by_row(group: Group, judged: Sequence[Judged]) -> Packed | None:
        """Many rows are sooner cut apart together than put into columns one by one."""
        if not group.whole or len(judged[0].sources) < MANY or not isinstance(group.pack, Floats):
            return None
        pack, views, shown = group.pack, [judged[i] for i in group.whole], list(group.whole.values())
        if not any([isinstance(view, JudgedColumns) for view in views]):  # noqa: C419 - quicker as a list
            return pack.by_row([view.values for view in views], shown)
        arrays = [v.columns if isinstance(v, JudgedColumns) else pack.columns(v.values) for v in views]
        whole = [array for array in arrays if array is not None]
        return pack.of_columns(whole, shown) if len(whole) == len(arrays) else None

    @staticmethod
    def _by_column(group: Group, judged: Sequence[Judged]) -> Packed:
        by_view = {i: by_feature_of(judged[i]) for i in dict.fromkeys(i for i, _ in group.places)}
        raws: list[bytes] = []
        for i, k in group.places:
            raws += by_view[i][k]
        return group.pack(raws)

    def ages_of(self, judged: Sequence[Judged]) -> bytes:
        """INT64 microseconds of all views, one after the other."""
        return b"".join([_ages(judged[i]) for i in self.views])

    def sources_of(self, judged: Sequence[Judged]) -> bytes:
        """UINT8 of all views, one after the other."""
        return b"".join([judged[i].sources for i in self.views])


def _ages(judged: Judged) -> bytes:
    if isinstance(judged, JudgedColumns):
        return judged.ages.each.astype("<i8", copy=False).tobytes()
    return struct.pack(f"<{len(judged.ages_us)}q", *judged.ages_us)
