"""The first schema of `facts`: events, outcomes, accuracy, explanations, the ledger of cost, drift."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from headrace.storage.schema import NUMBER, TEXT

revision = "0001"
down_revision = None

_ROW = ("tenant", "request_id", "row")
_CHARGED = ("hour", "tenant", "pipeline", "version", "traffic")


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, NUMBER, nullable=False, autoincrement=False) for name in names]


def _sums(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, NUMBER, nullable=False, server_default="0") for name in names]


def _reals(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Double, nullable=False) for name in names]


def _blobs(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.LargeBinary, nullable=False) for name in names]


def _keyed(name: str, key: tuple[str, ...], *columns: sa.Column[Any]) -> None:
    """A table whose rows are found by these columns."""
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), sqlite_with_rowid=False)


def _numbered(name: str, *columns: sa.Column[Any], unique: tuple[str, ...] = ()) -> None:
    """A table whose rows get ids that rise, of which none comes twice."""
    more = [sa.UniqueConstraint(*unique)] if unique else []
    number = sa.Column("id", NUMBER, primary_key=True, autoincrement=True)
    op.create_table(name, number, *columns, *more, sqlite_autoincrement=True)


def upgrade() -> None:
    _keyed("schema_info", ("version",), *_numbers("version", "minimum"))
    _keyed("turns", ("name",), *_texts("name"))
    _events()
    _outcomes()
    _accuracy()
    _explanations()
    _cost()
    _drift()
    turns = sa.table("turns", sa.column("name", sa.Text))
    for name in ("outcomes", "accuracy", "explanations", "cost"):
        op.execute(turns.insert().values(name=name))
    info = sa.table("schema_info", sa.column("version", sa.Integer), sa.column("minimum", sa.Integer))
    op.execute(info.insert().values(version=1, minimum=1))


def _events() -> None:
    _keyed("event_streams", ("epoch",), *_numbers("epoch", "noted"), *_texts("replica"), *_reals("heard"))
    _keyed("event_ranges", ("epoch", "first"), *_numbers("epoch", "first", "last"))
    _numbered(
        "event_batches",
        *_texts("kind", "pipeline"),
        *_numbers("rows", "bytes", "first_us", "last_us"),
        *_reals("stored"),
        *_blobs("content"),
    )
    op.create_index("event_batches_by_kind", "event_batches", ["kind"])
    # A file that is being written has neither hash nor size yet.
    _keyed(
        "event_files",
        ("path",),
        *_texts("path", "state", "audited"),
        *_reals("since"),
        *(sa.Column(name, TEXT) for name in ("sha256", "pipeline", "tenants", "header")),
        *(sa.Column(name, NUMBER) for name in ("bytes", "rows", "first_us", "last_us")),
    )
    op.create_index("event_files_by_time", "event_files", ["last_us"])


def _outcomes() -> None:
    # `judged`: whether an outcome said that the prediction was wrong (1) or right (0).
    _numbered(
        "exposures",
        *_texts("tenant", "request_id", "pipeline", "arm", "labels"),
        *_numbers("row", "release"),
        sa.Column("key", NUMBER),
        sa.Column("judged", NUMBER),
        *_reals("received"),
        unique=_ROW,
    )
    op.create_index("exposures_by_release", "exposures", ["pipeline", "release"])
    _numbered(
        "outcomes",
        *_texts("tenant", "request_id", "name"),
        *_numbers("row", "label"),
        *_reals("value", "time", "received"),
        unique=(*_ROW, "name"),
    )
    # Sums that stay when their rows are removed for their age.
    arm = ("pipeline", "release", "arm")
    _keyed("judged", arm, *_texts("pipeline", "arm"), *_numbers("release", "rows", "wrong"))
    # Those of rows with a sticky value, in the order in which they were made.
    _numbered(
        "judgements", *_texts("pipeline", "arm"), *_numbers("release", "key", "wrong"), *_reals("received")
    )
    op.create_index("judgements_by_pipeline", "judgements", ["pipeline", "id"])
    # Outcomes that differ from the first of the same prediction and name.
    _numbered(
        "contradictions",
        *_texts("tenant", "request_id", "name"),
        *_numbers("row"),
        *_reals("value", "received"),
    )


def _accuracy() -> None:
    # What made predictions, with sums that stay.
    maker = ("pipeline", "release", "arm", "version")
    _numbered(
        "makers",
        *_texts("pipeline", "arm", "version"),
        *_numbers("release"),
        *_sums("labelled", "wrong"),
        unique=maker,
    )
    _numbered(
        "predictions",
        *_texts("tenant", "request_id", "labels"),
        *_numbers("row", "made_by"),
        *_reals("time", "start", "received"),
        sa.Column("expected", sa.Double),
        sa.Column("judged", NUMBER),
        unique=_ROW,
    )
    _keyed(
        "accuracy_windows",
        ("made_by", "start"),
        *_numbers("made_by"),
        *_reals("start"),
        *_sums("rows", "labelled", "wrong", "expected_rows"),
        sa.Column("expected", sa.Double, nullable=False, server_default="0"),
        *_sums("contradictions"),
    )
    _keyed(
        "label_delays",
        ("made_by", "start", "bucket"),
        *_numbers("made_by", "bucket", "count"),
        *_reals("start"),
    )
    # Up to which row a table was read.
    _keyed("followed", ("what",), *_texts("what"), *_numbers("id"))


def _explanations() -> None:
    _keyed(
        "explanations",
        ("id",),
        *_blobs("id", "contributions", "errors"),
        *_texts("tenant", "pipeline", "revision", "arm", "output", "columns", "sources"),
        *_reals("stored", "base", "value"),
        *_numbers("exact"),
    )
    op.create_index("explanations_by_age", "explanations", ["stored"])
    op.create_index("explanations_by_pipeline", "explanations", ["pipeline", "stored"])
    # Ids of events that were erased, so that an explanation that comes later is not stored.
    _keyed("forgotten", ("id",), *_blobs("id"), *_reals("time"))
    _keyed("coverage", ("pipeline", "day"), *_texts("pipeline"), *_numbers("day", "predictions", "explained"))
    # Names of the counts that are in `coverage`, so that those that come again are not counted twice.
    _keyed("counted", ("id",), *_blobs("id"), *_reals("time"))


def _cost() -> None:
    _keyed(
        "charges",
        (*_CHARGED, "service", "resource", "currency"),
        *_numbers("hour"),
        *_texts(*_CHARGED[1:], "service", "resource", "currency"),
        *_reals("quantity", "amount"),
    )
    _keyed(
        "counts",
        _CHARGED,
        *_numbers("hour"),
        *_texts(*_CHARGED[1:]),
        *_numbers("rows", "requests"),
    )
    _keyed(
        "bills",
        ("hour", "resource", "currency"),
        *_numbers("hour"),
        *_texts("resource", "currency"),
        *_reals("seconds", "quantity", "amount"),
    )
    _keyed("readings", ("name",), *_texts("name"), *_reals("value", "time"))
    _keyed("memory", ("service",), *_texts("service"), *_reals("process_gb", "time"))


def _drift() -> None:
    series = ("pipeline", "revision", "arm", "traffic", "layout", "span")
    _keyed("drift_windows", (*series, "start"), *_texts(*series), *_reals("start", "end"), *_blobs("sketch"))
    version = ("pipeline", "arm", "runs")
    _keyed("drift_states", version, *_texts(*version, "state"))
