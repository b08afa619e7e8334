"""Tables of predictions and outcomes, and what follows from both."""

from __future__ import annotations

from services.monitoring.database.columns import table

# What made predictions, with sums that stay when their rows are removed for their age. `chosen`: see `accuracy.records.Chosen`.
MAKERS = table("makers", numbers="id release chosen labelled wrong", texts="pipeline arm version")
# Rows that may be judged. `judged`: whether an outcome said that it was wrong (1) or right (0); `start`: of the window; `key`: of
# rows with a sticky value that chance sent to their arm.
PREDICTIONS = table(
    "predictions",
    numbers="id row made_by judged key",
    texts="tenant request_id labels",
    reals="time start expected received",
)
OUTCOMES = table(
    "outcomes", numbers="id row label", texts="tenant request_id name", reals="value time received"
)
# Of judged predictions with a key, in the order in which they were judged. `wrong_before`: the newest release in which the key
# was wrong before, whatever the arm; -1: none.
JUDGEMENTS = table(
    "judgements", numbers="id release key wrong wrong_before", texts="pipeline arm", reals="received"
)
# Outcomes that differ from the first of the same prediction and name.
CONTRADICTIONS = table(
    "contradictions", numbers="id row", texts="tenant request_id name", reals="value received"
)
WINDOWS = table(
    "accuracy_windows",
    numbers="made_by rows labelled wrong expected_rows contradictions",
    reals="start expected",
)
LABEL_DELAYS = table("label_delays", numbers="made_by bucket count", reals="start")
