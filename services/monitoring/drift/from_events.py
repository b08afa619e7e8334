"""Prediction events → what the drift monitor counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Column, DType
from headrace.events import CACHED, CODE, GroupHeader
from headrace.sketches import Values
from services.monitoring.drift.monitor import DriftMonitor
from services.monitoring.drift.ports import Traffic
from services.monitoring.events.allowance import Allowance

_OWN = "@"
# Arms of pipelines whose allowance is remembered.
_MOST = 1024


class DriftObserver:
    """Feeds a monitor with events. Rows that failed are left out: they have no outputs, and say nothing of the inputs' share.

    `allowance`: made for each arm of each revision; of more rows than it allows, a part of the batches is counted. Which ones
    depends on nothing that is in them. None: all are counted.
    """

    def __init__(self, monitor: DriftMonitor, allowance: Callable[[], Allowance] | None = None) -> None:
        self._monitor = monitor
        self._allowance = allowance
        self._allowances: dict[tuple[str, str, str], Allowance] = {}

    def observe(self, header: GroupHeader, columns: Mapping[str, Column], now: float) -> None:
        """See `services.monitoring.events.ports.EventObserver`. Hashes of personal data are of no distribution: left out."""
        if not self._allowed(header, len(columns[CODE].array), now):
            return
        seen = {n: c for n, c in columns.items() if not n.startswith(_OWN) and n not in header.masked}
        answered = columns[CODE].array == 0
        kept = columns[CACHED].array.astype(bool) if CACHED in columns else np.zeros(len(answered), bool)
        usual = _traffic(header)
        for traffic, chosen in ((usual, answered & ~kept), (Traffic.CACHED, answered & kept)):
            if chosen.any():
                values = {name: _values(column, chosen) for name, column in seen.items()}
                self._monitor.observe(header.pipeline, header.revision, header.arm, values, now, traffic)

    def _allowed(self, header: GroupHeader, rows: int, now: float) -> bool:
        if self._allowance is None:
            return True
        key = (header.pipeline, header.revision, f"{header.arm}/{_traffic(header)}")
        allowance = self._allowances.get(key)
        if allowance is None:
            if len(self._allowances) >= _MOST:
                del self._allowances[next(iter(self._allowances))]
            allowance = self._allowances[key] = self._allowance()
        if allowance.take(rows, now):
            return True
        self._monitor.left_out(rows)
        return False


def _traffic(header: GroupHeader) -> Traffic:
    if header.replayed:
        return Traffic.REPLAYED
    return Traffic.SHADOW if header.shadow_of else Traffic.LIVE


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
