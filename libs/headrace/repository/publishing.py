"""Writing a model version into a repository, so that no reader ever sees half of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata, TensorSpec
from headrace.repository.repository import METADATA
from headrace.repository.versions import check_name


def publish(
    root: Path,
    name: str,
    version: str,
    content: bytes,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    backend: str = "onnxruntime",
    metrics: Mapping[str, Any] | None = None,
    trained_on: Any = None,
    extra: Mapping[str, Any] | None = None,
) -> Metadata:
    """Writes `<root>/<name>/<version>/` with the artifact and its metadata; the folder appears as a whole.

    Raises RepositoryError if the version is there already: a published version never changes.
    """
    folder = root / check_name("model", name) / check_name("version", version)
    about = Metadata(
        name=name,
        version=version,
        backend=backend,
        sha256=hashlib.sha256(content).hexdigest(),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        metrics=metrics or {},
        trained_on=trained_on,
        extra=extra or {},
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
    try:
        _write(draft / about.artifact, content)
        _write(draft / METADATA, about.to_json())
        draft.chmod(0o755)
        # Fails if the version is there: a folder with files in it is never replaced.
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if folder.exists():
            raise RepositoryError(name, version, "is published already", "choose a new version") from None
        raise RepositoryError(
            name, version, f"can't be written ({error.strerror})", "check disk and rights"
        ) from error
    return about


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
