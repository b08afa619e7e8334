"""Writes consumed events through Feast. Imports Feast, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace.featurestore.writer import WriteError, open_store, push
from services.features.stream.consumer import RefusedError, Row


class FeastWriter:
    """Writes for a StreamConsumer. It has its own FeatureStore, because Feast's is not safe to use from two threads."""

    def __init__(self, repo: Path) -> None:
        """Raises WriteError if `repo` is no feature repository."""
        self._store = open_store(repo)

    def write(self, view: str, rows: Sequence[Row]) -> tuple[int, int]:
        """Writes rows. Returns the numbers of rows written, and of rows older than the store's. Raises RefusedError. Blocks."""
        try:
            pushed = push(self._store, view, rows)
        except WriteError as error:
            raise RefusedError(str(error)) from error
        return pushed.written, pushed.older
