"""The sketch of all columns of a window of rows: counts, bins, frequent categories."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.sketches.categories import CategoryCounts
from headrace.sketches.layout import Layout
from headrace.sketches.numeric import NumberCounts
from headrace.sketches.values import Values


class LayoutError(ValueError):
    """Two sketches do not count the same things."""


@dataclass(frozen=True, slots=True)
class NumberFigures:
    """What is known of a column of numbers."""

    rows: int
    nulls: int
    non_finite: int
    out_of_range: int
    bins: tuple[int, ...]

    @property
    def values(self) -> int:
        """Rows with a finite value."""
        return self.rows - self.nulls - self.non_finite


@dataclass(frozen=True, slots=True)
class CategoryFigures:
    """What is known of a column of texts. `unseen`: rows with a category outside the vocabulary; `frequent`: most of
    those."""

    rows: int
    nulls: int
    counts: tuple[int, ...]
    unseen: int
    frequent: tuple[tuple[str, int], ...]

    @property
    def values(self) -> int:
        """Rows with a text."""
        return self.rows - self.nulls


class Sketch:
    """Of one window. `rows`: those of all batches."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows = 0
        self.numbers = NumberCounts(layout)
        self.categories = {c.name: CategoryCounts(c) for c in layout.categories}

    def update(self, columns: Mapping[str, Values | None], rows: int) -> None:
        """Takes a batch of `rows` rows. None: the column should be there, and is not: all its rows count as nulls.

        Columns that the layout does not name are passed over. Raises ValueError if a column has not `rows` rows; then nothing
        was counted.
        """
        known = {name: values for name, values in columns.items() if name in self.layout}
        for name, values in known.items():
            if values is not None and len(values) != rows:
                raise ValueError(f"column {name} has {len(values)} values for {rows} rows")
        if not rows:
            return
        self.numbers.update({n: v for n, v in known.items() if n not in self.categories}, rows)
        for name, counts in self.categories.items():
            if name in known:
                counts.update(known[name], rows)
        self.rows += rows

    def merge(self, other: Sketch) -> None:
        """Takes all that the other has seen. Raises LayoutError."""
        if other.layout is not self.layout and other.layout.digest != self.layout.digest:
            raise LayoutError("the sketches have different layouts: edges, ranges or vocabularies differ")
        self.rows += other.rows
        self.numbers.merge(other.numbers)
        for name, counts in self.categories.items():
            counts.merge(other.categories[name])

    def number(self, name: str) -> NumberFigures:
        """Figures of a column of numbers. Raises KeyError."""
        place = self.layout.positions[name]
        counts, column = self.numbers, self.layout.numbers[place]
        return NumberFigures(
            int(counts.rows[place]),
            int(counts.nulls[place]),
            int(counts.non_finite[place]),
            int(counts.out_of_range[place]),
            tuple(counts.bins[place, : column.bins].tolist()),
        )

    def category(self, name: str) -> CategoryFigures:
        """Figures of a column of texts. Raises KeyError."""
        counts = self.categories[name]
        frequent = tuple((text, found.most) for text, found in counts.unseen_texts.top(8))
        return CategoryFigures(counts.rows, counts.nulls, tuple(counts.known), counts.unseen, frequent)

    def to_bytes(self) -> bytes:
        """Its state, to be sent or stored; `from_bytes` reads it with the same layout."""
        head = {
            "layout": self.layout.digest,
            "rows": self.rows,
            "categories": {n: c.to_json() for n, c in self.categories.items()},
        }
        arrays: dict[str, Any] = dict(self.numbers.arrays())
        file = io.BytesIO()
        np.savez_compressed(file, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, layout: Layout) -> Sketch:
        """Raises LayoutError: it is of another layout; ValueError: it can't be read."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as found:
                head = json.loads(found["head"].tobytes())
                if head["layout"] != layout.digest:
                    raise LayoutError("the stored sketch is of another layout")
                made = cls(layout)
                made.rows = int(head["rows"])
                made.numbers.restore(found)
                for name, counts in made.categories.items():
                    counts.restore(head["categories"][name])
                return made
        except LayoutError:
            raise
        # A damaged archive makes zipfile, zlib, NumPy and the JSON parser raise almost anything.
        except Exception as error:
            raise ValueError(f"no sketch: {type(error).__name__}") from error
