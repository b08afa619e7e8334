"""The models and features of a prepared home, against which documents are checked offline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from headrace.cli.installation import control_place
from headrace.cli.installation.layout import Layout
from headrace.columns import DType
from headrace.pipeline import ModelSignature, ViewSignature
from headrace.releases.known_models import signature
from headrace.repository.records import Records

# Our types by Feast's names, for the types that a feature view may have here.
_FEAST_TYPES: Mapping[str, DType] = {
    "Bool": DType.BOOL,
    "Bytes": DType.BYTES,
    "Float32": DType.FLOAT32,
    "Float64": DType.FLOAT64,
    "Int32": DType.INT32,
    "Int64": DType.INT64,
    "String": DType.BYTES,
    "UnixTimestamp": DType.INT64,
}


def models(layout: Layout) -> dict[str, ModelSignature] | None:
    """The signature of each model, of the version that serves, else of the newest; None if no models are prepared.

    Raises RepositoryError.
    """
    if not layout.models.is_dir():
        return None
    repository, serving = control_place.models(layout), Records(layout.executor_state).serving()
    found = {}
    for name in repository.models():
        versions = repository.versions(name)
        live = [v for v in serving.get(name, ()) if v in versions]
        about = repository.metadata(name, (live or versions)[-1])
        found[name] = signature(about)
    return found


def features(layout: Layout) -> dict[str, ViewSignature] | None:
    """Outputs and request inputs of each feature view, from Feast's registry; None if no features are prepared."""
    if not (layout.feast / "feature_store.yaml").exists():
        return None
    # Its import takes seconds, and only this function needs it.
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(layout.feast))
    views = [*store.list_feature_views(), *store.list_stream_feature_views()]
    found = {v.name: ViewSignature(_dtypes(v.features), _microseconds(v.ttl)) for v in views}
    for view in store.list_on_demand_feature_views():
        taken = [f for source in view.source_request_sources.values() for f in source.schema]
        found[view.name] = ViewSignature(_dtypes(view.features), request=_dtypes(taken))
    return found


def _dtypes(fields: Iterable[Any]) -> dict[str, DType]:
    """Type by name of Feast's fields; types that no column can hold are left out."""
    return {f.name: _FEAST_TYPES[str(f.dtype)] for f in fields if str(f.dtype) in _FEAST_TYPES}


def _microseconds(ttl: timedelta | None) -> int:
    return ttl // timedelta(microseconds=1) if ttl else 0
