"""The key `objectives` of a document: what is promised of the pipeline's answers."""

from __future__ import annotations

from headrace.pipeline.document.entries import Entry
from headrace.pipeline.spec import LatencyObjective, Objectives

_DAY_US = 86_400_000_000
DEFAULT_WINDOW_US = 30 * _DAY_US
_MIN_WINDOW_US, _MAX_WINDOW_US = 3_600_000_000, 90 * _DAY_US


def read_objectives(entry: Entry, deadline_ms: int) -> Objectives:
    """The objectives of an entry. `deadline_ms`: of the pipeline: an answer that comes later is none."""
    fields = entry.fields([], ["availability", "latency", "window"])
    if not {"availability", "latency"} & fields.keys() and entry.is_mapping:
        entry.fail("needs the key 'availability' or 'latency'")
    # A promise of 1 leaves no error budget: nothing could ever be changed.
    availability = fields["availability"].number_between(0.5, 1.0) if "availability" in fields else None
    latency = _read_latency(fields["latency"], deadline_ms) if "latency" in fields else None
    window = (
        fields["window"].duration(_MIN_WINDOW_US, _MAX_WINDOW_US) if "window" in fields else DEFAULT_WINDOW_US
    )
    return Objectives(availability, latency, window)


def _read_latency(entry: Entry, deadline_ms: int) -> LatencyObjective:
    fields = entry.fields(["p", "ms"])
    p = fields["p"].number_between(0.0, 1.0) if "p" in fields else 0.0
    # The deadline has its own message if it can't be read.
    ms = fields["ms"].integer(1, deadline_ms or 3_600_000) if "ms" in fields else 0
    return LatencyObjective(p, ms)
