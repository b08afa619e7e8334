"""Counts of one column of texts: its vocabulary exactly, other texts by Space-Saving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from headrace.sketches import values
from headrace.sketches.frequent import Counted, SpaceSaving
from headrace.sketches.layout import CategoryColumn
from headrace.sketches.values import Values

# Unseen texts that are kept at least.
_FREQUENT = 64


class CategoryCounts:
    """`known`: rows by category of the vocabulary; `unseen`: rows with another text."""

    def __init__(self, column: CategoryColumn) -> None:
        self._place = {text: i for i, text in enumerate(column.vocabulary)}
        self.rows, self.nulls, self.unseen = 0, 0, 0
        self.known = [0] * len(column.vocabulary)
        self.unseen_texts = SpaceSaving(_FREQUENT)

    def update(self, found: Values | None, rows: int) -> None:
        """Takes a batch; None: all nulls."""
        self.rows += rows
        if found is None:
            self.nulls += rows
            return
        items = values.texts(found)
        try:
            counts: Counter[Any] = Counter(items)
        except TypeError:  # a list of lists: no text
            counts = Counter(map(str, items))
        self.nulls += counts.pop(None, 0)
        by_text: dict[str, int] = {}
        for item, count in counts.items():
            text = values.text_of(item)
            by_text[text] = by_text.get(text, 0) + count
        self._take(by_text)

    def _take(self, by_text: Mapping[str, int]) -> None:
        unseen: dict[str, int] = {}
        for text, count in by_text.items():
            place = self._place.get(text)
            if place is None:
                unseen[text] = count
                self.unseen += count
            else:
                self.known[place] += count
        if unseen:
            self.unseen_texts.update(unseen)

    def merge(self, other: CategoryCounts) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.unseen += other.unseen
        self.known = [a + b for a, b in zip(self.known, other.known, strict=True)]
        self.unseen_texts.merge(other.unseen_texts)

    def to_json(self) -> dict[str, Any]:
        """Its state as plain values."""
        keys = ("rows", "nulls", "unseen", "known")
        frequent = {text: list(counted) for text, counted in self.unseen_texts.counters.items()}
        values_of = {key: getattr(self, key) for key in keys}
        return {**values_of, "unseen_texts": frequent, "unseen_least": self.unseen_texts.least}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError, ValueError or TypeError if they are not those of this column."""
        if len(state["known"]) != len(self.known):
            raise ValueError("another vocabulary")
        for key in ("rows", "nulls", "unseen"):
            setattr(self, key, int(state[key]))
        self.known = [int(n) for n in state["known"]]
        counters = {str(t): Counted(int(c), int(e)) for t, (c, e) in state["unseen_texts"].items()}
        self.unseen_texts = SpaceSaving(_FREQUENT, counters, int(state["unseen_least"]))
