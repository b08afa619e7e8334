"""A reply's columns: all features of one stored type together, then the ages and the sources of all views."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from headrace.columns import DType
from services.features.packing import Packed, Packer
from services.features.planning import ServicePlan
from services.features.shaping import Judged, by_feature_of


@dataclass(frozen=True, slots=True)
class Group:
    """Columns of one type, end to end: their names, and where each is (view of the plan, feature of the view)."""

    dtype: DType
    names: list[str]
    places: list[tuple[int, int]]
    pack: Packer


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
                group = groups.setdefault(pack, Group(feature.dtype, [], [], pack))
                group.names.append(feature.name)
                group.places.append((i, k))
        self.groups = list(groups.values())
        names = [view.name for view, _ in plan.given]
        self.ages, self.sources = [f"@age_us/{n}" for n in names], [f"@source/{n}" for n in names]

    def features(self, judged: Sequence[Judged]) -> list[tuple[Group, Packed]]:
        """Each group with its values: those of the first column, of the second, and so on, in one."""
        by_view = {i: by_feature_of(judged[i]) for i in self.views}
        found = []
        for group in self.groups:
            raws: list[bytes] = []
            for i, k in group.places:
                raws += by_view[i][k]
            found.append((group, group.pack(raws)))
        return found

    def ages_of(self, judged: Sequence[Judged]) -> bytes:
        """INT64 microseconds of all views, one after the other."""
        ages = [age for i in self.views for age in judged[i].ages_us]
        return struct.pack(f"<{len(ages)}q", *ages)

    def sources_of(self, judged: Sequence[Judged]) -> bytes:
        """UINT8 of all views, one after the other."""
        return b"".join([judged[i].sources for i in self.views])
