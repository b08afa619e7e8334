"""Events of one arm of one revision with the same models, as a batch of columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, DType, Ragged
from headrace.pipeline import ModelUse

EVENT_ID = "@event_id"
SEQUENCE = "@sequence"
TIME_US = "@time_us"
ROW = "@row"
CODE = "@code"
REASON = "@reason"
LATENCY_US = "@latency_us"
BUSY_US = "@busy_us"
# And a service; of the executor, also a model: `@busy_us/executor/MODEL:VERSION`.
BUSY_OF = "@busy_us/"
CACHED = "@cached"
# Whether chance sent the row to its arm; false: a rule did. Absent where outcomes do not compare arms.
DRAWN = "@drawn"
# Hash of what decides which arm a row gets; absent where nothing does.
KEY = "@key"
# And the name of a stage.
STAGE_US = "@stage_us/"

ID_BYTES = 16
_TIME_BYTES = 6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class GroupHeader:
    """What all events of a group have in common. `inputs`, `features`, `outputs`: names of columns of the batch; `masked`: those
    with hashes in the place of personal data; `omitted`: columns that were left out as their values are too large. `fallbacks`:
    the i-th is bit i of the column `@fallbacks`. `shadow_of`: the arm that answered; "": this one did."""

    pipeline: str
    version: int
    revision: str
    arm: str
    release: int = 0
    experiment: str = ""
    models: tuple[ModelUse, ...] = ()
    fallbacks: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()
    replayed: bool = False
    shadow_of: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EventGroup:
    """Events with one header. The batch has no row errors: codes are in the column `@code`."""

    header: GroupHeader
    batch: Batch

    def __len__(self) -> int:
        return len(self.batch)


def event_ids(times_us: NDArray[np.int64], epochs: NDArray[np.int64], sequences: NDArray[np.int64]) -> Column:
    """Ids of the events of these times (µs since 1970) that have these numbers in their streams: sorted as text, they are sorted
    by time.

    The epoch of a stream is random, so no two events have one id; and whoever knows an event's place in its stream knows its id
    before the event is made.
    """
    count = len(times_us)
    made = np.empty((count, ID_BYTES), np.uint8)
    milliseconds = (times_us // 1000).astype(">u8")
    made[:, :_TIME_BYTES] = milliseconds.view(np.uint8).reshape(count, 8)[:, 8 - _TIME_BYTES :]
    started = epochs.astype(np.uint64)
    first = _mixed(started + sequences.astype(np.uint64) * _GOLDEN)
    made[:, _TIME_BYTES : _TIME_BYTES + 8] = first.astype(">u8").view(np.uint8).reshape(count, 8)
    second = _mixed(first ^ started).astype(">u8").view(np.uint8).reshape(count, 8)
    made[:, _TIME_BYTES + 8 :] = second[:, 6:]
    offsets = np.arange(0, (count + 1) * ID_BYTES, ID_BYTES, dtype=np.uint32)
    return Column(EVENT_ID, DType.BYTES, Ragged(offsets, made.tobytes()))


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The last steps of SplitMix64: different numbers give different ones, which look random."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
