"""The baseline as a file of a model's version: signed with it, and read without the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headrace.drift.baseline import FILE, MAX_BYTES, Baseline, BaselineError, parse
from headrace.drift.signature import check_fits
from headrace.repository import Repository, TensorSpec


def publication_of(
    baseline: Baseline, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What `publish` gets as further `files`, and as `baseline` of the metadata. Raises BaselineError: it does not fit."""
    check_fits(baseline, inputs, outputs)
    content = baseline.to_bytes()
    if len(content) > MAX_BYTES:
        raise BaselineError("", f"it has more than {MAX_BYTES >> 20} MiB", "name fewer columns")
    return {FILE: content}, {"file": FILE, "rows": baseline.rows, "columns": len(baseline.columns)}


def baseline_of_version(repository: Repository, model: str, version: str) -> Baseline | None:
    """The baseline that was published with a version; None: there is none. Verified as the repository's trust demands.

    Raises BaselineError: it can't be used; RepositoryError: it can't be read, or is not trusted.
    """
    about, content = repository.file(model, version, FILE, MAX_BYTES)
    if content is None:
        return None
    try:
        found = parse(content)
        check_fits(found, about.inputs, about.outputs)
    except BaselineError as error:
        raise error.of(model, version) from None
    return found
