"""Counts of one column of texts: its vocabulary exactly, other texts by Space-Saving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.sketches import hyperloglog, values
from headrace.sketches.frequent import Counted, SpaceSaving
from headrace.sketches.layout import CategoryColumn
from headrace.sketches.values import Values

# Unseen texts that are kept at least.
_FREQUENT = 64


class CategoryCounts:
    """`known`: rows by category of the vocabulary; `unseen`: rows with another text."""

    def __init__(self, column: CategoryColumn) -> None:
        self._place = {text: i for i, text in enumerate(column.vocabulary)}
        self.rows, self.nulls, self.empty, self.unseen = 0, 0, 0, 0
        self.known = [0] * len(column.vocabulary)
        self.unseen_texts = SpaceSaving(_FREQUENT)
        self.registers = np.zeros(hyperloglog.REGISTERS, np.uint8)

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
        self.empty += by_text.get("", 0)
        if unseen:
            self.unseen_texts.update(unseen)
        hashes = np.fromiter(map(hyperloglog.hash_of_text, by_text), np.uint64, len(by_text))
        hyperloglog.observe(self.registers, 0, hashes)

    def merge(self, other: CategoryCounts) -> None:
        self.rows += other.rows
        self.nulls += other.nulls
        self.empty += other.empty
        self.unseen += other.unseen
        self.known = [a + b for a, b in zip(self.known, other.known, strict=True)]
        self.unseen_texts.merge(other.unseen_texts)
        np.maximum(self.registers, other.registers, out=self.registers)

    def to_json(self) -> dict[str, Any]:
        """All but the registers, as plain values."""
        keys = ("rows", "nulls", "empty", "unseen", "known")
        frequent = {text: list(counted) for text, counted in self.unseen_texts.counters.items()}
        values_of = {key: getattr(self, key) for key in keys}
        return {**values_of, "unseen_texts": frequent, "unseen_least": self.unseen_texts.least}

    def restore(self, state: Mapping[str, Any], registers: NDArray[Any]) -> None:
        """Raises KeyError, ValueError or TypeError if they are not those of this column."""
        if len(state["known"]) != len(self.known) or registers.shape != self.registers.shape:
            raise ValueError("another vocabulary")
        for key in ("rows", "nulls", "empty", "unseen"):
            setattr(self, key, int(state[key]))
        self.known = [int(n) for n in state["known"]]
        counters = {str(t): Counted(int(c), int(e)) for t, (c, e) in state["unseen_texts"].items()}
        self.unseen_texts = SpaceSaving(_FREQUENT, counters, int(state["unseen_least"]))
        self.registers[...] = registers
