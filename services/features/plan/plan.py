"""Plans: what to read for one feature service. Compiled from the registry outside the request path; immutable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from headrace.columns import DType
from services.features.plan.entity_keys import prefix
from services.features.reply import DTYPES, FloatPacker, Packer, packer


@dataclass(frozen=True, slots=True)
class JoinKey:
    """A join key. `name`: its column in requests; `stored`: its name in stored keys; `dtype`: BYTES (text) or an integer."""

    name: str
    dtype: DType
    stored: str


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature. `field`: the field of Feast's Value that holds it."""

    name: str
    field: str

    @property
    def dtype(self) -> DType | None:
        """The type of its column; None for lists, maps and similar types, which columns can't hold."""
        return DTYPES.get(self.field)


@dataclass(frozen=True, slots=True)
class FreshnessRule:
    """The ages that a caller allows, within the time to live. `max_age_s`: good values (0: any age); `stale_s`: this much
    older, values are usable but stale."""

    max_age_s: float
    stale_s: float


ANY_AGE = FreshnessRule(0.0, 0.0)


@dataclass(frozen=True)
class ViewPlan:
    """The part of one feature view that is read. `ttl_s`: how old a value may be; 0 = any age.

    `name`: its name in replies; `stored`: its name in the online store. `keys` are sorted by their stored names, which is
    their order in stored keys.
    """

    name: str
    stored: str
    keys: tuple[JoinKey, ...]
    features: tuple[Feature, ...]
    ttl_s: float

    @cached_property
    def identity(self) -> str:
        """View plans with the same identity read the same rows in the same form."""
        return repr((self.stored, [(k.stored, k.dtype) for k in self.keys], self.features))

    @cached_property
    def places(self) -> Mapping[str, int]:
        return {feature.name: i for i, feature in enumerate(self.features)}

    @cached_property
    def packers(self) -> tuple[Packer, ...]:
        return tuple(packer(feature.field) for feature in self.features)

    @cached_property
    def numbers(self) -> bool:
        """Whether all features are numbers: their stored values have about the same size."""
        dtypes = {feature.dtype for feature in self.features}
        return not dtypes & {None, DType.BYTES}

    @cached_property
    def floats(self) -> FloatPacker | None:
        """The packer of all its features if they are floating-point numbers of one type, else None."""
        first = self.packers[0] if self.packers else None
        return first if isinstance(first, FloatPacker) and set(self.packers) == {first} else None

    @cached_property
    def key_prefix(self) -> bytes:
        return prefix([key.stored for key in self.keys])

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The columns of its join keys, in the order of stored keys."""
        return tuple(key.name for key in self.keys)

    @cached_property
    def nulls(self) -> tuple[bytes, ...]:
        return (b"",) * len(self.features)


@dataclass(frozen=True)
class OnDemandView:
    """An on-demand feature view: its features are computed from other features and from columns of the request.

    `inputs`: (view, feature) read for it. `request`: columns that the request must contain. `transform`: takes one column
    of serialised values per input and one column of plain values per request column; returns one column of serialised values
    per feature; raises any exception that its author's code raises. `blocking`: must not run on an event loop.
    """

    name: str
    inputs: tuple[tuple[str, Feature], ...]
    request: tuple[Feature, ...]
    features: tuple[Feature, ...]
    transform: Callable[[Sequence[Sequence[bytes]], Sequence[Sequence[Any]]], list[list[bytes]]]
    blocking: bool


class ViewSelection(NamedTuple):
    """The features that a feature service takes from one view. `alias`, `key_names`: other names of the view and its keys."""

    view: str
    features: tuple[str, ...]
    alias: str = ""
    key_names: Mapping[str, str] = MappingProxyType({})


class OnDemandPart(NamedTuple):
    """An on-demand view in a plan. `places`: positions of its inputs (view, feature). `view`: its returned features as a view."""

    derived: OnDemandView
    places: tuple[tuple[int, int], ...]
    view: ViewPlan


@dataclass(frozen=True)
class ServicePlan:
    """What a feature service reads and returns.

    `keys`: all join keys of its views. `shown`: per view, how many of its first features are returned; the others are only
    inputs of `on_demand`. −1: nothing of the view is returned, not even its age. `unreadable`: why the service can't be read;
    "" if it can. `rules`: by view, how old its values may be for a caller.
    """

    name: str
    views: tuple[ViewPlan, ...]
    keys: tuple[JoinKey, ...]
    shown: tuple[int, ...]
    on_demand: tuple[OnDemandPart, ...]
    revision: str
    unreadable: str = ""
    rules: Mapping[str, FreshnessRule] = field(default_factory=dict)

    @cached_property
    def key_views(self) -> tuple[ViewPlan, ...]:
        """The first view with each set of join keys: the keys of rows are computed once for all views that share them."""
        return tuple({view.keys: view for view in reversed(self.views)}.values())

    @cached_property
    def key_groups(self) -> tuple[int, ...]:
        """Per view, the position in `key_views` of the one with its join keys."""
        places = {view.keys: i for i, view in enumerate(self.key_views)}
        return tuple(places[view.keys] for view in self.views)

    @cached_property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Per view, the maximum ages in seconds: of good values, and of usable values."""
        found = []
        for view in self.views:
            ttl, rule = view.ttl_s or math.inf, self.rules.get(view.name, ANY_AGE)
            good = rule.max_age_s or math.inf
            found.append((min(good, ttl), min(good + rule.stale_s, ttl)))
        return tuple(found)

    @cached_property
    def given(self) -> tuple[tuple[ViewPlan, tuple[Feature, ...]], ...]:
        """The views in the reply and their returned features, in the order of the reply."""
        read = [(v, v.features[:n]) for v, n in zip(self.views, self.shown, strict=True) if n >= 0]
        return (*read, *[(d.view, d.view.features) for d in self.on_demand])

    @cached_property
    def given_counts(self) -> tuple[int, ...]:
        """Per view and then per on-demand view, how many of its features are returned; −1: it is not in the reply."""
        return (*self.shown, *[len(d.view.features) for d in self.on_demand])

    @cached_property
    def request(self) -> tuple[Feature, ...]:
        """The columns that the request must contain besides join keys."""
        return tuple({f.name: f for d in self.on_demand for f in d.derived.request}.values())

    @cached_property
    def unpackable(self) -> str:
        """The first feature whose type columns can't hold, as `view:feature`; "" if there is none."""
        names = [f"{v.name}:{f.name}" for v, features in self.given for f in features if f.dtype is None]
        return names[0] if names else ""

    @cached_property
    def ambiguous(self) -> str:
        """Names the first feature that two views return, and both views; "" if there is none."""
        owners: dict[str, str] = {}
        for view, features in self.given:
            for feature in features:
                if owners.setdefault(feature.name, view.name) != view.name:
                    return f"feature {feature.name} is in {owners[feature.name]} and in {view.name}"
        return ""


class Unsupported(Exception):  # noqa: N818 - a finding about a feature service, not a failure
    """These features can't be read; the text says why."""
