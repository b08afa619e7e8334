"""Attributes of a request, derived from its headers, for the rules of releases: columns `@attribute/NAME` beside the inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from headrace.columns import Batch, Column, DType, Ragged
from headrace.releases.inputs import ATTRIBUTE

# A rule compares whole values, and none that a person writes is longer. A longer one counts as absent.
_MAX_BYTES = 256


class Attributes:
    """Derives the attributes that the settings name. `headers`: attribute → header, in lower case.

    Every request gets all columns, a null where it lacks the header, so that requests with and without it share calls.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._columns = [(ATTRIBUTE + name, header.encode()) for name, header in headers.items()]

    def added(self, batch: Batch, headers: Mapping[bytes, bytes]) -> Batch:
        """The batch with the attributes of a request with these headers."""
        count = len(batch)
        return batch.with_columns(_column(name, headers.get(header), count) for name, header in self._columns)


def _column(name: str, value: bytes | None, count: int) -> Column:
    there = value is not None and len(value) <= _MAX_BYTES
    text = value if there and value is not None else b""
    offsets = np.arange(count + 1, dtype=np.uint32) * np.uint32(len(text))
    return Column(
        name, DType.BYTES, Ragged(offsets, text * count), (), None if there else np.zeros(count, bool)
    )
