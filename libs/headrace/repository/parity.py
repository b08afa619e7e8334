"""How far answers of two runs of one version may differ, as its metadata states it."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.repository.errors import RepositoryError
from headrace.repository.metadata import Metadata


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Outputs agree if |a − b| ≤ absolute + relative · |b|."""

    absolute: float = 1e-4
    relative: float = 1e-3


def stated_tolerance(about: Metadata) -> Tolerance:
    """The tolerance of the metadata: {"parity": {"absolute": …, "relative": …}}. Raises RepositoryError."""
    stated = about.extra.get("parity", {})
    try:
        return Tolerance(**{k: float(v) for k, v in stated.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise RepositoryError(
            about.name,
            about.version,
            f"metadata.json: parity can't be used ({error})",
            'state it as {"absolute": 0.0001, "relative": 0.001}',
        ) from error
