"""A model repository: a folder of models, versions, artifacts and what is known about them."""

from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata, TensorSpec
from headrace.repository.publishing import publish
from headrace.repository.repository import Artifact, Check, Repository, digest_matches
from headrace.repository.versions import version_key

__all__ = [
    "Artifact",
    "Check",
    "Metadata",
    "Repository",
    "RepositoryError",
    "TensorSpec",
    "digest_matches",
    "publish",
    "version_key",
]
