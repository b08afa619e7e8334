"""What the service needs of feature_store.yaml."""

from __future__ import annotations

import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from services.features.stores.online_store import StoreError


class RegistrySettings(BaseModel):
    """Where the registry is. Defaults are Feast's."""

    path: str = ""
    registry_type: str = "file"
    registry_store_type: str | None = None
    enable_online_feature_view_versioning: bool = False


class Repository(BaseModel):
    """A feature repository as its feature_store.yaml describes it; `folder` holds that file. Defaults are Feast's."""

    folder: Path
    project: str
    registry: RegistrySettings
    online: dict[str, Any] = Field(default={}, alias="online_store")
    key_version: int = Field(default=3, alias="entity_key_serialization_version")

    @field_validator("registry", mode="before")
    @classmethod
    def _registry_of_path(cls, given: object) -> object:
        return {"path": given} if isinstance(given, str) else given

    @field_validator("online", mode="before")
    @classmethod
    def _online_of_type(cls, given: object) -> object:
        return {"type": given} if given is None or isinstance(given, str) else given

    @property
    def online_type(self) -> str:
        return str(self.online.get("type", "sqlite"))

    @property
    def registry_file(self) -> Path | None:
        """The registry, if it is a file of this machine. None: a database, a bucket or the like, which Feast reads."""
        registry = self.registry
        if registry.registry_type != "file" or registry.registry_store_type or "://" in registry.path:
            return None
        return self.folder / registry.path


def read_repository(folder: Path) -> Repository:
    """The repository in `folder`. Raises StoreError if there is none."""
    path = folder / "feature_store.yaml"
    try:
        # As Feast does: variables of the environment are put in.
        found = yaml.safe_load(os.path.expandvars(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StoreError(f"can't open the feature store: {error}") from error
    if not isinstance(found, Mapping):
        raise StoreError(f"can't open the feature store: {path} is no mapping")
    try:
        return Repository.model_validate({**found, "folder": folder})
    except ValidationError as error:
        raise StoreError(f"can't open the feature store: {path}: {error}") from error
