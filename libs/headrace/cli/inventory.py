"""What a prepared home really has, for checking documents offline: model signatures and registered features."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.cli.layout import Layout
from headrace.columns import DType
from headrace.pipeline import ColumnType, ModelSignature
from headrace.repository import Repository, TensorSpec

# Feast's type names and ours, for what a feature view may hold here.
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
    """The newest version's signature of each model; None if no models are prepared. Raises RepositoryError."""
    if not layout.models.is_dir():
        return None
    repository = Repository(layout.models)
    found = {}
    for name in repository.models():
        about = repository.metadata(name, repository.versions(name)[-1])
        found[name] = ModelSignature(_types(about.inputs), _types(about.outputs))
    return found


def _types(tensors: tuple[TensorSpec, ...]) -> dict[str, ColumnType]:
    return {tensor.name: ColumnType(tensor.dtype, tensor.row_shape) for tensor in tensors}


def features(layout: Layout) -> dict[str, dict[str, DType]] | None:
    """Feature view → feature → type, from Feast's registry; None if none is prepared."""
    if not (layout.feast / "feature_store.yaml").exists():
        return None
    # Takes seconds to import, and only this needs it.
    from feast import FeatureStore

    views = FeatureStore(repo_path=str(layout.feast)).list_feature_views()
    return {
        view.name: {
            field.name: _FEAST_TYPES[str(field.dtype)]
            for field in view.features
            if str(field.dtype) in _FEAST_TYPES
        }
        for view in views
    }
