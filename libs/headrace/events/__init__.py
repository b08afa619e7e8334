"""Prediction events: what a router tells the monitoring service of each prediction, and how personal data is masked in it."""

from headrace.events.group import (
    BUSY_OF,
    BUSY_US,
    CACHED,
    CODE,
    DRAWN,
    EVENT_ID,
    KEY,
    LATENCY_US,
    REASON,
    ROW,
    SEQUENCE,
    STAGE_US,
    TIME_US,
    EventGroup,
    GroupHeader,
    event_ids,
)
from headrace.events.mask import Mask, read_salt
from headrace.events.prediction_id import prediction_id, split_prediction_id

__all__ = [
    "BUSY_OF",
    "BUSY_US",
    "CACHED",
    "CODE",
    "DRAWN",
    "EVENT_ID",
    "KEY",
    "LATENCY_US",
    "REASON",
    "ROW",
    "SEQUENCE",
    "STAGE_US",
    "TIME_US",
    "EventGroup",
    "GroupHeader",
    "Mask",
    "event_ids",
    "prediction_id",
    "read_salt",
    "split_prediction_id",
]
