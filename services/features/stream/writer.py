"""Writes consumed events through Feast. Imports Feast, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headrace.featurestore.writer import WriteError, open_store, push
from services.features.stream.consumer import RefusedError, Row


class FeastWriter:
    """What a StreamConsumer writes with. Has a store of its own: Feast's are not made for two threads."""

    def __init__(self, repo: Path) -> None:
        """Raises WriteError if `repo` is no feature repository."""
        self._store = open_store(repo)

    def write(self, view: str, rows: Sequence[Row]) -> tuple[int, int]:
        """Writes rows; how many, and how many were older than what is there. Raises RefusedError. Blocks."""
        try:
            pushed = push(self._store, view, rows)
        except WriteError as error:
            raise RefusedError(str(error)) from error
        return pushed.written, pushed.older
