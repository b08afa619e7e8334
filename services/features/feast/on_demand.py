"""Plans of on-demand feature views: their inputs, and how their functions are called. Imports Feast and pandas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from feast import OnDemandFeatureView

from services.features.feast.layout import field_of_type
from services.features.feast.messages import Value
from services.features.plan.plan import Feature, OnDemandView

_Values = dict[str, list[Any]]
_Function = Callable[[_Values], Mapping[str, Sequence[Any]]]


def derived_of(view: OnDemandFeatureView) -> OnDemandView:
    inputs = tuple(
        (projection.name, Feature(f.name, _field_of(f.dtype)))
        for projection in view.source_feature_view_projections.values()
        for f in projection.features
    )
    request = tuple(
        Feature(f.name, _field_of(f.dtype))
        for source in view.source_request_sources.values()
        for f in source.schema
    )
    features = tuple(Feature(f.name, _field_of(f.dtype)) for f in view.features)
    call = _Call(_caller(view), inputs, request, features)
    return OnDemandView(view.name, inputs, request, features, call, view.mode != "python")


def _field_of(kind: Any) -> str:
    return field_of_type(kind.to_value_type().value)


class _Call:
    """See OnDemandView.transform. The function gets the same arguments as from Feast, except the entities' keys."""

    def __init__(
        self,
        function: _Function,
        inputs: Sequence[tuple[str, Feature]],
        request: Sequence[Feature],
        features: Sequence[Feature],
    ) -> None:
        self._function = function
        self._inputs = inputs
        self._request = request
        self._features = features

    def __call__(
        self, inputs: Sequence[Sequence[bytes]], request: Sequence[Sequence[Any]]
    ) -> list[list[bytes]]:
        given: _Values = {f.name: list(v) for f, v in zip(self._request, request, strict=True)}
        for (view, feature), raws in zip(self._inputs, inputs, strict=True):
            # A function may read a feature as `feature` and as `view__feature`.
            given[feature.name] = given[f"{view}__{feature.name}"] = [_plain(raw) for raw in raws]
        found = self._function(given)
        return [[_stored(value, f.field) for value in found[f.name]] for f in self._features]


def _caller(view: OnDemandFeatureView) -> _Function:
    """A function that calls the view's own function on a whole batch."""
    transformation: Any = view.feature_transformation
    function = transformation.udf

    def one_by_one(given: _Values) -> Mapping[str, Sequence[Any]]:
        rows = [dict(zip(given, row, strict=True)) for row in zip(*given.values(), strict=True)]
        found = [function(row) for row in rows]
        return {f.name: [row[f.name] for row in found] for f in view.features}

    def framed(given: _Values) -> Mapping[str, Sequence[Any]]:
        frame = function(pd.DataFrame(given))
        return {f.name: frame[f.name].tolist() for f in view.features}

    if view.mode == "python":
        return one_by_one if view.singleton else function
    return framed


def _plain(raw: bytes) -> Any:
    """A stored value as a Python object; None for null."""
    if not raw:
        return None
    value = Value.FromString(raw)
    field = value.WhichOneof("val")
    found: Any = getattr(value, field) if field else None
    return list(found.val) if hasattr(found, "val") else found


def _stored(value: Any, field: str) -> bytes:
    """A value in its stored form; None and NaN become null. Raises TypeError or ValueError for a value of another type."""
    if value is None or value != value:
        return b""
    value = value.item() if hasattr(value, "item") else value
    if field.startswith(("int", "unix")):
        value = int(value)
    stored: bytes = Value(**{field: value}).SerializeToString()
    return stored
