"""Releases, pipelines and batches for the tests of routes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.columns import Batch, Column, Rows
from headrace.pipeline import Pipeline, parse, plan
from headrace.releases import Release
from headrace.releases.document import validated
from services.router.routes.route import Route, Share
from services.router.routes.table import RouteTable

DOCUMENT = """\
pipeline: flights
version: VERSION
deadline_ms: 100
inputs:
  carrier: {type: bytes, required: false}
  seats: {type: int32, required: false}
  distance: {type: float32, required: false}
  serial: {type: uint64, required: false}
  direct: {type: bool, required: false}
stages:
  - model: m
    name: m
    inputs: {x: distance}
    outputs: {y: {column: y, type: float32}}
outputs: [y]
"""


def pipeline(version: int = 1) -> Pipeline:
    return parse(DOCUMENT.replace("VERSION", str(version)), "flights.yaml")


def release(arms: Sequence[str] = ("live", "candidate"), **changes: Any) -> Release:
    arm = {"version": 1, "revision": "ab" * 32}
    values = {"pipeline": "flights", "number": 9, "arms": dict.fromkeys(arms, arm), **changes}
    return validated("flights", values)


def canary(weight: float, by: str | None = "carrier", salt: str = "s", **changes: Any) -> Release:
    weights = {"live": 1 - weight, "candidate": weight}
    return release(assign={"weights": weights, "by": by, "salt": salt}, **changes)


def table(found: Release) -> tuple[RouteTable, tuple[Route, ...]]:
    """Its table and routes."""
    flights = pipeline()
    routes = tuple(Route(arm, plan(flights), ()) for arm in found.arms)
    return RouteTable.compile(found, dict.fromkeys(found.arms, flights)), routes


def batch(rows: Rows, *columns: Column) -> Batch:
    """The columns, and those of the pipeline that are not among them with nulls."""
    count, none = len(rows), np.zeros(len(rows), bool)
    found = {
        "carrier": Column("carrier", *_of_nothing(count), (), none),
        "seats": Column.of("seats", np.zeros(count, np.int32), none),
        "distance": Column.of("distance", np.zeros(count, np.float32), none),
        "serial": Column.of("serial", np.zeros(count, np.uint64), none),
        "direct": Column.of("direct", np.zeros(count, bool), none),
    }
    return Batch.of(rows, (found | {c.name: c for c in columns}).values())


def _of_nothing(count: int) -> tuple[Any, Any]:
    empty = Column.of_bytes("", [b""] * count)
    return empty.dtype, empty.values


def single_requests(count: int, tenant: str = "t") -> Rows:
    """As many requests of one row each."""
    return Rows([f"r{i}" for i in range(count)], [tenant] * count, [5] * count, [9.0] * count, [""] * count)


def told(shares: Sequence[Share], count: int) -> list[tuple[str, str, bool]]:
    """Arm, rule and whether it was sticky, of each row. Fails unless the shares are disjoint and have all rows."""
    found: list[tuple[str, str, bool] | None] = [None] * count
    for share in shares:
        rows: NDArray[np.intp] = np.arange(count) if share.rows is None else share.rows
        assert rows.tolist() == sorted(rows.tolist())
        assert len(rows) or not count
        chosen = np.zeros(len(rows), int) if share.chosen is None else share.chosen
        for row, which in zip(rows.tolist(), chosen.tolist(), strict=True):
            assert found[row] is None
            choice = share.choices[which]
            found[row] = (share.route.name, choice.rule, choice.sticky)
    assert None not in found
    return [f for f in found if f is not None]
