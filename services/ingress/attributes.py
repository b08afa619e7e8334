"""Attributes of a request, derived from its headers, for the rules of releases: columns `@attribute/NAME` beside the inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.columns import Column, DType, Ragged
from headrace.releases.inputs import ATTRIBUTE

# A rule compares whole values, and none that a person writes is longer. A longer one counts as absent.
_MAX_BYTES = 256


class Attributes:
    """Derives the attributes that the settings name. `headers`: attribute → header, in lower case.

    Every request gets all columns, a null where it lacks the header, so that requests with and without it share calls.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._columns = [(ATTRIBUTE + name, header.encode()) for name, header in headers.items()]

    def columns(self, headers: Sequence[Mapping[bytes, bytes]]) -> list[Column]:
        """The attributes of rows whose requests have these headers."""
        return [_column(name, [h.get(header) for h in headers]) for name, header in self._columns]


def _column(name: str, values: Sequence[bytes | None]) -> Column:
    there = [value is not None and len(value) <= _MAX_BYTES for value in values]
    items = [
        value if known and value is not None else b"" for value, known in zip(values, there, strict=True)
    ]
    return Column(name, DType.BYTES, Ragged.of(items), (), None if all(there) else np.array(there))
