"""Rows of a file that a person names: a JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any


def read(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number and object of each line that is not blank. Raises ValueError naming the line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} is no JSON object")  # noqa: TRY004 - a fault of the file
        yield number, row
