"""Prediction events → predictions that may be judged. Runs in the event loop, so it only gathers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType
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
        probability = self._calibrated(header.pipeline, header.revision, header.arm)
        for maker, rows in found.items():
            keyed = maker.chosen is Chosen.BY_CHANCE
            self._waiting.setdefault(maker, []).extend(_predictions(group, rows, probability, keyed=keyed))
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
    group: EventGroup, which: Sequence[int], probability: str | None, *, keyed: bool
) -> Iterator[Prediction]:
    """`probability`: the column with it; None: it is not calibrated. `keyed`: whether the rows' keys are of interest."""
    header, batch = group.header, group.batch
    columns, rows = batch.columns, batch.rows
    labels = {n: _floats(columns[n]).tolist() for n in header.outputs if _compared(columns.get(n))}
    expected = _expected(batch, labels, probability)
    places, times = columns[ROW].array.tolist(), columns[TIME_US].array.tolist()
    keys = _keys(columns[KEY]) if keyed and KEY in columns else None
    for i in which:
        compared = {name: values[i] for name, values in labels.items() if not math.isnan(values[i])}
        of = (rows.tenants[i], rows.request_ids[i], places[i], times[i] * _MICRO, compared)
        yield Prediction(*of, expected[i] if expected else None, keys[i] if keys else None)


def _by_maker(header: GroupHeader, batch: Batch) -> Iterator[tuple[Maker, list[int]]]:
    """Which rows may be judged, by what made them."""
    arm, version = (header.pipeline, header.release, header.arm), version_of(header)
    answered, drawn = batch.columns[CODE].array == 0, batch.columns.get(DRAWN)
    if drawn is None:
        found = {Maker(*arm, version): answered}
    else:
        found = {
            Maker(*arm, version, Chosen.BY_CHANCE): answered & drawn.array,
            # Chance sent them, too: without them, an arm that fails would seem to get fewer rows than its share.
            Maker(*arm, "", Chosen.BY_CHANCE): ~answered & drawn.array,
            Maker(*arm, version, Chosen.BY_RULE): answered & ~drawn.array,
        }
    for maker, mask in found.items():
        yield maker, np.flatnonzero(mask).tolist()


def _keys(column: Column) -> list[int | None]:
    """64 bits of the hash of each row's sticky value; None: it has none."""
    return [
        int.from_bytes(found[:8], "little", signed=True) if there else None
        for found, there in zip(column.ragged.to_list(), column.is_valid().tolist(), strict=True)
    ]


def version_of(header: GroupHeader) -> str:
    """What ran: the models' versions and the document's revision, in words."""
    models = ",".join(sorted({f"{used.model}={used.version}" for used in header.models}))
    return f"{models or 'no model'} ({header.revision[:12]})"


def _compared(column: Column | None) -> bool:
    """Whether an outcome of its name can say that it was wrong: a truth value or a whole number a row."""
    return column is not None and not column.row_shape and column.dtype.numpy.kind in "biu"


def _floats(column: Column, element: int = 0) -> NDArray[np.float64]:
    """That element of each row; NaN: null."""
    found = column.array.reshape(len(column), -1)[:, element].astype(np.float64)
    found[~column.is_valid()] = math.nan
    return found


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
    column, number = batch.columns.get(name), "0"
    if column is None:
        base, _, rest = name.partition("[")
        column, number = batch.columns.get(base), rest.rstrip("]")
    if column is None or not number.isdecimal():
        return None
    known = column.dtype.is_float and int(number) < column.row_size
    return _floats(column, int(number)) if known else None
