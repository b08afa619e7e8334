"""The signals that rules and assignments read of a batch: its columns, and the tenant and priority of each row."""

from __future__ import annotations

from typing import Any

from headrace.columns import Batch, Column, Ragged
from headrace.releases.inputs import PRIORITY, TENANT


def values_of(batch: Batch, signal: str) -> list[Any] | None:
    """One Python value per row: bytes, int, float, bool or (tenants) str; None for a null. None: the batch has no such
    column with a single value per row."""
    if signal == TENANT:
        return batch.rows.tenants
    if signal == PRIORITY:
        return batch.rows.priorities
    column = batch.columns.get(signal)
    if column is None or column.row_shape:
        return None
    return _values(column)


def _values(column: Column) -> list[Any]:
    values = column.values
    found: list[Any] = values.to_list() if isinstance(values, Ragged) else values.tolist()
    if column.valid is None:
        return found
    return [v if there else None for v, there in zip(found, column.valid.tolist(), strict=True)]
