"""Builds a plan from the selection that a feature service makes from the registry's views."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.features.plan.plan import (
    Feature,
    JoinKey,
    OnDemandPart,
    OnDemandView,
    ServicePlan,
    Unsupported,
    ViewPlan,
    ViewSelection,
)


@dataclass
class _Read:
    """A view to be read. `shown`: how many of its features the reply contains; these come first."""

    view: ViewPlan
    features: list[Feature]
    shown: int


def assemble(
    name: str,
    picks: Sequence[ViewSelection],
    views: Mapping[str, ViewPlan],
    derived: Mapping[str, OnDemandView],
) -> ServicePlan:
    """The plan of these selections. Raises Unsupported if they can't be served together."""
    reads: dict[str, _Read] = {}
    for pick in picks:
        if pick.view in views:
            view = _renamed(views[pick.view], pick)
            features = [_feature(view.features, f, pick.view) for f in pick.features]
            if view.name in reads:
                raise Unsupported(f"view {view.name} is taken twice")
            reads[view.name] = _Read(view, features, len(features))
        elif pick.view not in derived:
            raise Unsupported(f"there is no view {pick.view} that can be read online")
    taken = [pick for pick in picks if pick.view in derived]
    for pick in taken:
        for view_name, feature in derived[pick.view].inputs:
            _also_read(reads, views, view_name, feature)
    plans = tuple(replace(read.view, features=tuple(read.features)) for read in reads.values())
    shown = tuple(read.shown for read in reads.values())
    places = {(v.name, f.name): (i, j) for i, v in enumerate(plans) for j, f in enumerate(v.features)}
    on_demand = tuple(_derivation(derived[pick.view], pick, places) for pick in taken)
    return ServicePlan(
        name, plans, _keys(plans), shown, on_demand, revision_of(name, plans, shown, on_demand)
    )


def _renamed(view: ViewPlan, pick: ViewSelection) -> ViewPlan:
    if not pick.alias and not pick.key_names:
        return view
    keys = tuple(replace(k, name=pick.key_names.get(k.stored, k.name)) for k in view.keys)
    return replace(view, name=pick.alias or view.name, keys=keys)


def _feature(features: Sequence[Feature], name: str, view: str) -> Feature:
    for feature in features:
        if feature.name == name:
            return feature
    raise Unsupported(f"view {view} has no feature {name}")


def _also_read(reads: dict[str, _Read], views: Mapping[str, ViewPlan], name: str, feature: Feature) -> None:
    if name not in views:
        raise Unsupported(f"there is no view {name} that can be read online")
    read = reads.setdefault(name, _Read(views[name], [], -1))
    if feature not in read.features:
        read.features.append(feature)


def _derivation(
    derived: OnDemandView, pick: ViewSelection, places: Mapping[tuple[str, str], tuple[int, int]]
) -> OnDemandPart:
    name = pick.alias or derived.name
    features = tuple(_feature(derived.features, f, derived.name) for f in pick.features)
    inputs = tuple(places[view, feature.name] for view, feature in derived.inputs)
    return OnDemandPart(derived, inputs, ViewPlan(name, derived.name, (), features, 0.0))


def _keys(views: Sequence[ViewPlan]) -> tuple[JoinKey, ...]:
    keys: dict[str, JoinKey] = {}
    for view in views:
        for key in view.keys:
            if keys.setdefault(key.name, key).dtype is not key.dtype:
                raise Unsupported(f"join key {key.name} has different types in its views")
    return tuple(keys.values())


def revision_of(
    name: str, views: Sequence[ViewPlan], shown: Sequence[int], on_demand: Sequence[OnDemandPart]
) -> str:
    """A short hash of everything that a plan reads and returns."""
    read = [(v.name, v.identity, v.ttl_s, n) for v, n in zip(views, shown, strict=True)]
    text = repr((name, read, [(d.view.identity, d.places) for d in on_demand]))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
