"""Tables of explanations."""

from __future__ import annotations

from services.monitoring.database.columns import table

EXPLANATIONS = table(
    "explanations",
    numbers="exact",
    texts="tenant pipeline revision arm output columns sources",
    reals="stored base value",
    blobs="id contributions errors",
)
# Ids of events that were erased, so that an explanation that comes later is not stored.
FORGOTTEN = table("forgotten", reals="time", blobs="id")
COVERAGE = table("coverage", numbers="day predictions explained", texts="pipeline")
# Names of the counts that are in `coverage`, so that those that come again are not counted twice.
COUNTED = table("counted", reals="time", blobs="id")
