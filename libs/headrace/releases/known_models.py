"""What releases may name of the models of a repository."""

from __future__ import annotations

from pathlib import Path

from headrace.catalog.access import Records
from headrace.catalog.errors import RecordsError
from headrace.pipeline import ColumnType, ModelSignature
from headrace.releases.changes import KnownModels
from headrace.repository import Metadata, Repository, RepositoryError, TensorSpec
from headrace.repository import records as executor_records
from headrace.repository.model_index import all_indexes


def known_models(
    root: Path, state: Path | None, records: Records, unreadable: dict[str, str] | None = None
) -> KnownModels:
    """All versions, labels and signatures, and which versions are in quarantine. `root`: of the repository; `state`: of
    the executors; `unreadable`: see `all_indexes`. Raises RepositoryError."""
    try:
        indexes = all_indexes(records, unreadable)
    except RecordsError as error:
        raise RepositoryError("", "", f"which models there are can't be read: {error}", "try again") from None
    repository = Repository(root, index=indexes.get)
    labels: dict[str, dict[str, str]] = {}
    for model, index in indexes.items():
        for label, version in index.labels.items():
            labels.setdefault(label, {})[model] = version

    def signature_of(model: str, version: str) -> ModelSignature | None:
        try:
            return signature(repository.metadata(model, version))
        except RepositoryError:
            return None  # what is wrong with it is said elsewhere

    versions = {model: index.ordered() for model, index in indexes.items() if index.versions}
    return KnownModels(versions, labels, _unusable(state), signature_of)


def signature(about: Metadata) -> ModelSignature:
    """What a version of a model takes and gives."""
    return ModelSignature(_types(about.inputs), _types(about.outputs))


def _unusable(state: Path | None) -> dict[tuple[str, str], str]:
    found = {}
    quarantined = executor_records.Records(state).quarantined() if state is not None else {}
    for key, about in quarantined.items():
        model, _, version = key.partition(":")
        found[model, version] = f"it is in quarantine ({about.get('problem') or 'see: headrace models list'})"
    return found


def _types(tensors: tuple[TensorSpec, ...]) -> dict[str, ColumnType]:
    return {tensor.name: ColumnType(tensor.dtype, tensor.row_shape) for tensor in tensors}
