"""A signed repository of models with baselines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.columns import DType
from headrace.repository import ModelIndex, Repository, TensorSpec, Trust
from tests.libs.repository.signed_models import signed

OUTPUT = TensorSpec("p", DType.FLOAT32)


class BaselineModels:
    """`public`: the key that is trusted."""

    def __init__(self, folder: Path) -> None:
        self._signed = signed(folder)
        self.root, self.public = self._signed.root, self._signed.public
        self._indexes: dict[str, ModelIndex] = {}
        self.repository = Repository(self.root, trust=Trust((self.public,)), index=self._indexes.get)

    def add(
        self, model: str, version: str, tensor: TensorSpec, files: Mapping[str, bytes], about: Any = None
    ) -> None:
        """`files`, `about`: what `publication_of` makes of a baseline."""
        tensors: dict[str, Any] = {"inputs": [tensor], "outputs": [OUTPUT]}
        made = self._signed.put(version, model, b"model", files=files, baseline=about or {}, **tensors)
        index = self._indexes.get(model, ModelIndex(model))
        self._indexes[model] = index.with_version(version, made.digest())
