"""Prediction events → what the drift monitor counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.events import CACHED, CODE, GroupHeader
from headrace.sketches import Values
from services.monitoring.drift.monitor import DriftMonitor
from services.monitoring.drift.ports import Series, Traffic
from services.monitoring.events.allowance import Allowance

_OWN = "@"
# Arms of pipelines whose allowance is remembered.
_MOST = 1024


class DriftObserver:
    """Feeds a monitor with events. Rows that failed are left out, as they have no outputs; kept and replayed answers too, as they
    say nothing of today's.

    `allowance`: made for each arm of each revision; of more rows than it allows, a part of the batches is counted. Which ones
    depends on nothing that is in them.
    """

    def __init__(self, monitor: DriftMonitor, allowance: Callable[[], Allowance]) -> None:
        self._monitor = monitor
        self._allowance = allowance
        self._allowances: dict[Series, Allowance] = {}

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        """See `services.monitoring.events.ports.EventObserver`. Hashes of personal data are of no distribution: left out."""
        traffic = Traffic.SHADOW if header.shadow_of else Traffic.LIVE
        series = Series(header.pipeline, header.revision, header.arm, traffic)
        if header.replayed or not self._allowed(series, len(columns[CODE].array), now):
            return
        chosen = columns[CODE].array == 0
        if CACHED in columns:
            chosen &= ~columns[CACHED].array.astype(bool)
        values = {
            name: _values(column, chosen)
            for name, column in columns.items()
            if not name.startswith(_OWN) and name not in header.masked
        }
        if chosen.any():
            self._monitor.observe(series, values, now)

    def _allowed(self, series: Series, rows: int, now: float) -> bool:
        allowance = self._allowances.get(series)
        if allowance is None:
            if len(self._allowances) >= _MOST:
                del self._allowances[next(iter(self._allowances))]
            allowance = self._allowances[series] = self._allowance()
        if allowance.take(rows, now):
            return True
        self._monitor.left_out(rows)
        return False


def _values(column: Column, chosen: NDArray[np.bool_]) -> Values | None:
    """The chosen rows; None: byte strings of several elements a row, which have no baseline."""
    if column.dtype is DType.BYTES:
        if column.row_shape:
            return None
        return [text for text, is_chosen in zip(column.text(), chosen.tolist(), strict=True) if is_chosen]
    values = column.array[chosen]
    if column.valid is None:
        return values
    missing = ~column.valid[chosen]
    return np.ma.masked_array(values, np.broadcast_to(_wide(missing, values), values.shape))


def _wide(mask: NDArray[np.bool_], values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """The mask of rows with a dimension of 1 for each further one of the values."""
    return mask.reshape(len(mask), *(1,) * (values.ndim - 1))
