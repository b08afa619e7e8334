"""The tables of events, as this version of the code sees them: what is not in a file yet, and which files there are."""

from __future__ import annotations

import sqlalchemy as sa

_TABLES = sa.MetaData()

# Streams of events. `noted`: events that the router made so far; `heard`: when it last said so, seconds since 1970.
STREAMS = sa.Table(
    "event_streams",
    _TABLES,
    sa.Column("epoch", sa.BigInteger, primary_key=True),
    sa.Column("replica", sa.Text),
    sa.Column("noted", sa.BigInteger),
    sa.Column("heard", sa.Double),
)
# Which numbers of a stream were stored, both ends included.
RANGES = sa.Table(
    "event_ranges",
    _TABLES,
    sa.Column("epoch", sa.BigInteger, primary_key=True),
    sa.Column("first", sa.BigInteger, primary_key=True),
    sa.Column("last", sa.BigInteger),
)
# Schemas of batches: Arrow's message, with the header of the events.
SCHEMAS = sa.Table(
    "event_schemas",
    _TABLES,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("content", sa.LargeBinary),
)
# Events that are in no file yet: Arrow record batches.
BATCHES = sa.Table(
    "event_batches",
    _TABLES,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("schema", sa.Text),
    sa.Column("pipeline", sa.Text),
    sa.Column("rows", sa.BigInteger),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("first_us", sa.BigInteger),
    sa.Column("last_us", sa.BigInteger),
    sa.Column("stored", sa.Double),
    sa.Column("content", sa.LargeBinary),
)
# Files of events. `state`: see `manifest.State`; `since`: when it came to be so; `tenants`: a list in JSON; `header`: what the
# events have in common, as JSON.
FILES = sa.Table(
    "event_files",
    _TABLES,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("state", sa.Text),
    sa.Column("since", sa.Double),
    sa.Column("sha256", sa.Text),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("rows", sa.BigInteger),
    sa.Column("pipeline", sa.Text),
    sa.Column("first_us", sa.BigInteger),
    sa.Column("last_us", sa.BigInteger),
    sa.Column("tenants", sa.Text),
    sa.Column("header", sa.Text),
)
