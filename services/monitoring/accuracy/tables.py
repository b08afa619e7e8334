"""Tables of accuracy."""

from __future__ import annotations

from services.monitoring.database.columns import table

# What made predictions, with sums that stay.
MAKERS = table("makers", numbers="id release labelled wrong", texts="pipeline arm version")
# `start`: of the window.
PREDICTIONS = table(
    "predictions",
    numbers="id row made_by judged",
    texts="tenant request_id labels",
    reals="time start expected received",
)
WINDOWS = table(
    "accuracy_windows",
    numbers="made_by rows labelled wrong expected_rows contradictions",
    reals="start expected",
)
LABEL_DELAYS = table("label_delays", numbers="made_by bucket count", reals="start")
# Up to which row a table was read.
FOLLOWED = table("followed", numbers="id", texts="what")
