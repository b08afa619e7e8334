"""Tables of outcomes, and of which arm made which predictions."""

from __future__ import annotations

from services.monitoring.database.columns import table

# `judged`: whether an outcome said that the prediction was wrong (1) or right (0).
EXPOSURES = table(
    "exposures",
    numbers="id row release key judged",
    texts="tenant request_id pipeline arm labels",
    reals="received",
)
OUTCOMES = table(
    "outcomes", numbers="id row label", texts="tenant request_id name", reals="value time received"
)
# Sums that stay when their rows are removed for their age.
JUDGED = table("judged", numbers="release rows wrong", texts="pipeline arm")
# Those of rows with a sticky value, in the order in which they were made.
JUDGEMENTS = table("judgements", numbers="id release key wrong", texts="pipeline arm", reals="received")
# Outcomes that differ from the first of the same prediction and name.
CONTRADICTIONS = table(
    "contradictions", numbers="id row", texts="tenant request_id name", reals="value received"
)
