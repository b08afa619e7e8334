"""Prediction events → predictions that may be judged. Runs in the event loop, so it only gathers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, Ragged
from headrace.events import CODE, DRAWN, KEY, ROW, TIME_US, EventGroup, GroupHeader
from services.monitoring.accuracy.records import Chosen, Maker, Prediction
from services.monitoring.events.allowance import Allowance

# Predictions that wait for the store; then the newest are left out.
MOST_WAITING = 50_000
_MICRO = 1e-6

# (pipeline, revision, arm) → the column with the probability, if the baseline says that it is calibrated.
Calibrated = Callable[[str, str, str], str | None]


class PredictionObserver:
    """A `GroupObserver`. `left_out`: counts rows that are not recorded, as there are too many."""

    def __init__(
        self, allowance: Allowance, calibrated: Calibrated, left_out: Callable[[int], object]
    ) -> None:
        self._allowance = allowance
        self._calibrated = calibrated
        self._left_out = left_out
        self._waiting: dict[Maker, list[Prediction]] = {}
        self._count = 0

    def observe_group(self, group: EventGroup, now: float) -> None:
        """Takes what callers got: no shadows, no replays. Where outcomes compare arms it takes all, and of rows that chance sent
        to their arm also those that failed."""
        header, batch = group.header, group.batch
        if header.shadow_of or header.replayed:
            return
        found = {maker: rows for maker, rows in _by_maker(header, batch) if rows}
        count = sum(map(len, found.values()))
        if not count:
            return
        full = self._count + count > MOST_WAITING
        if full or (DRAWN not in batch.columns and not self._allowance.take(count, now)):
            self._left_out(count)
            return
        for maker, rows in found.items():
            keyed = maker.chosen is Chosen.BY_CHANCE
            self._waiting.setdefault(maker, []).extend(self._predictions(header, batch, rows, keyed=keyed))
        self._count += count

    def taken(self) -> dict[Maker, list[Prediction]]:
        """What was gathered since the last call."""
        taken, self._waiting, self._count = self._waiting, {}, 0
        return taken

    def put_back(self, taken: Mapping[Maker, list[Prediction]]) -> None:
        """What could not be stored waits on."""
        for maker, predictions in taken.items():
            self._waiting[maker] = predictions + self._waiting.get(maker, [])
            self._count += len(predictions)

    def _predictions(
        self, header: GroupHeader, batch: Batch, which: Sequence[int], *, keyed: bool
    ) -> list[Prediction]:
        labels = {n: _values(batch.columns[n]) for n in header.outputs if _compared(batch.columns.get(n))}
        expected = _expected(batch, labels, self._calibrated(header.pipeline, header.revision, header.arm))
        places, times = batch.columns[ROW].array.tolist(), batch.columns[TIME_US].array.tolist()
        keys = _keys(batch.columns[KEY]) if keyed and KEY in batch.columns else None
        tenants, requests = batch.rows.tenants, batch.rows.request_ids
        return [
            Prediction(
                tenants[i],
                requests[i],
                places[i],
                times[i] * _MICRO,
                {name: values[i] for name, values in labels.items() if not math.isnan(values[i])},
                expected[i] if expected else None,
                keys[i] if keys else None,
            )
            for i in which
        ]


def _by_maker(header: GroupHeader, batch: Batch) -> Iterator[tuple[Maker, list[int]]]:
    """Which rows may be judged, by what made them."""
    arm, version = (header.pipeline, header.release, header.arm), version_of(header)
    answered, drawn = batch.columns[CODE].array == 0, batch.columns.get(DRAWN)
    if drawn is None:
        yield Maker(*arm, version), np.flatnonzero(answered).tolist()
        return
    yield Maker(*arm, version, Chosen.BY_CHANCE), np.flatnonzero(answered & drawn.array).tolist()
    # Chance sent them, too: without them, an arm that fails would seem to get fewer rows than its share.
    yield Maker(*arm, "", Chosen.BY_CHANCE), np.flatnonzero(~answered & drawn.array).tolist()
    yield Maker(*arm, version, Chosen.BY_RULE), np.flatnonzero(answered & ~drawn.array).tolist()


def _keys(column: Column) -> list[int | None]:
    """64 bits of the hash of each row's sticky value; None: it has none."""
    valid = [True] * len(column) if column.valid is None else column.valid.tolist()
    hashes = column.values.to_list() if isinstance(column.values, Ragged) else []
    return [
        int.from_bytes(found[:8], "little", signed=True) if there else None
        for found, there in zip(hashes, valid, strict=True)
    ]


def version_of(header: GroupHeader) -> str:
    """What ran: the models' versions and the document's revision, in words."""
    models = ",".join(sorted({f"{used.model}={used.version}" for used in header.models}))
    return f"{models or 'no model'} ({header.revision[:12]})"


def _compared(column: Column | None) -> bool:
    """Whether an outcome of its name can say that it was wrong: a truth value or a whole number a row."""
    return column is not None and not column.row_shape and column.dtype.numpy.kind in "biu"


def _values(column: Column) -> list[float]:
    found = column.array.astype(np.float64)
    if column.valid is not None:
        found[~column.valid] = math.nan
    values: list[float] = found.tolist()
    return values


def _expected(
    batch: Batch, labels: Mapping[str, Sequence[float]], probability: str | None
) -> list[float | None]:
    """Probability that each row is right; empty: it is not known.

    max(p, 1 − p), as if the more probable of two was said; if one truth value is said, p where it is true and 1 − p where not,
    since its threshold need not be a half.
    """
    found = _element(batch, probability) if probability else None
    if found is None:
        return []
    sure = np.where((found >= 0) & (found <= 1), np.maximum(found, 1 - found), math.nan)
    said = [name for name in labels if batch.columns[name].dtype is DType.BOOL]
    if len(said) == 1:
        truth = np.array(labels[said[0]])
        sure = np.where(np.isnan(truth) | np.isnan(sure), math.nan, np.where(truth > 0, found, 1 - found))
    return [None if math.isnan(p) else p for p in sure.tolist()]


def _element(batch: Batch, name: str) -> NDArray[np.float64] | None:
    """The values of a column, or of NAME[i] of one with several elements a row."""
    column, place = batch.columns.get(name), 0
    if column is None:
        base, _, rest = name.partition("[")
        column, number = batch.columns.get(base), rest.rstrip("]")
        if column is None or not number.isdecimal():
            return None
        place = int(number)
    if column.dtype is DType.BYTES or column.dtype.numpy.kind != "f" or place >= column.row_size:
        return None
    values = column.array.reshape(len(column), -1)[:, place].astype(np.float64)
    if column.valid is not None:
        values[~column.valid] = math.nan
    return values
