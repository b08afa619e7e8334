"""The first schema of `facts`: events, outcomes, accuracy, explanations, the ledger of cost, drift."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from headrace.storage.schema import NUMBER, TEXT

revision = "0001"
down_revision = None

_ROW = ("tenant", "request_id", "row")


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


def _keyed(name: str, key: tuple[str, ...], *columns: sa.Column[Any], large: bool = False) -> None:
    """A table whose rows are found by these columns. `large`: they have more than 200 bytes."""
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key), sqlite_with_rowid=large)


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
    # What objectives count, by buckets of time, and the counters of doors as they were read last.
    objective = ("pipeline", "objective")
    counts = (*_texts(*objective), *_numbers("start"), *_reals("requests", "bad"))
    _keyed("objective_counts", (*objective, "start"), *counts)
    process = ("process", *objective)
    _keyed("objective_readings", process, *_texts(*process), *_reals("requests", "bad", "time"))
    turns = sa.table("turns", sa.column("name", sa.Text))
    for name in ("outcomes", "explanations", "cost"):
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
    outcome = [*_texts("tenant", "request_id", "name"), *_numbers("row", "label")]
    _numbered("outcomes", *outcome, *_reals("value", "time", "received"), unique=(*_ROW, "name"))
    judged = [*_texts("pipeline", "arm"), *_numbers("release", "key", "wrong", "wrong_before")]
    _numbered("judgements", *judged, *_reals("received"))
    # All that is counted, so that no row is read.
    counted = ["pipeline", "release", "arm", "wrong_before", "wrong"]
    op.create_index("judgements_by_release", "judgements", counted)
    op.create_index("judgements_by_key", "judgements", ["pipeline", "key"])
    contradiction = [*_texts("tenant", "request_id", "name"), *_numbers("row")]
    _numbered("contradictions", *contradiction, *_reals("value", "received"))


def _accuracy() -> None:
    maker = [
        *_texts("pipeline", "arm", "version"),
        *_numbers("release", "chosen"),
        *_sums("labelled", "wrong"),
    ]
    _numbered("makers", *maker, unique=("pipeline", "release", "arm", "version", "chosen"))
    _numbered(
        "predictions",
        *_texts("tenant", "request_id", "labels"),
        *[*_numbers("row", "made_by"), sa.Column("judged", NUMBER), sa.Column("key", NUMBER)],
        *[*_reals("time", "start", "received"), sa.Column("expected", sa.Double)],
        unique=_ROW,
    )
    op.create_index("predictions_by_maker", "predictions", ["made_by"])
    window = [*_numbers("made_by"), *_reals("start")]
    counts = _sums("rows", "labelled", "wrong", "expected_rows", "contradictions")
    expected = sa.Column("expected", sa.Double, nullable=False, server_default="0")
    _keyed("accuracy_windows", ("made_by", "start"), *window, *counts, expected)
    delay = [*_numbers("made_by", "bucket", "count"), *_reals("start")]
    _keyed("label_delays", ("made_by", "start", "bucket"), *delay)


def _explanations() -> None:
    _keyed(
        "explanations",
        ("id",),
        *_blobs("id", "contributions", "errors"),
        *_texts("tenant", "pipeline", "revision", "arm", "output", "columns", "sources"),
        *[*_reals("stored", "base", "value"), *_numbers("exact")],
        large=True,
    )
    op.create_index("explanations_by_age", "explanations", ["stored"])
    op.create_index("explanations_by_pipeline", "explanations", ["pipeline", "stored"])
    _keyed("forgotten", ("id",), *_blobs("id"), *_reals("time"))
    _keyed("counted", ("id",), *_blobs("id"), *_reals("time"))


def _cost() -> None:
    charged = ("hour", "tenant", "pipeline", "version", "traffic")
    place = ("service", "resource", "currency")
    charge = [*_numbers("hour"), *_texts(*charged[1:], *place), *_reals("quantity", "amount")]
    _keyed("charges", (*charged, *place), *charge)
    _keyed("counts", charged, *_numbers("hour"), *_texts(*charged[1:]), *_numbers("rows", "requests"))
    bill = [*_numbers("hour"), *_texts(*place[1:]), *_reals("seconds", "quantity", "amount")]
    _keyed("bills", ("hour", *place[1:]), *bill)
    _keyed("readings", ("name",), *_texts("name"), *_reals("value", "time"))
    _keyed("memory", ("service",), *_texts("service"), *_reals("process_gb", "time"))


def _drift() -> None:
    version = ("pipeline", "arm", "runs")
    _keyed("drift_states", version, *_texts(*version, "state"))
