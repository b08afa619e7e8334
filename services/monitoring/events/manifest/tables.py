"""The tables of events; see `services.monitoring.database`. Times in µs and epochs have 63 bits."""

from __future__ import annotations

from services.monitoring.database.columns import table

# Streams of events. `noted`: events that the router made so far; `heard`: when it last said so, seconds since 1970.
STREAMS = table("event_streams", numbers="epoch noted", texts="replica", reals="heard")
# Which numbers of a stream were stored, both ends included.
RANGES = table("event_ranges", numbers="epoch first last")
# Events that are in no file yet. `kind`: the same for all that may be in one file; `stored`: when, seconds since 1970.
BATCHES = table(
    "event_batches",
    numbers="id rows bytes first_us last_us",
    texts="kind pipeline",
    reals="stored",
    blobs="content",
)
# Files of events. `state`: see `manifest.State`; `since`: when it came to be so, seconds since 1970; `tenants`: a list, `header`:
# what the events have in common, both JSON; `audited`: what the audit says of it (a state, or nothing yet).
FILES = table(
    "event_files",
    numbers="bytes rows first_us last_us",
    texts="path state audited sha256 pipeline tenants header",
    reals="since",
)
