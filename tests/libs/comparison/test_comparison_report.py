"""Rows compared in pairs: what differs, is counted and kept, the message that carries it, and the statistics of it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.router.v1 import shadow_pb2
from headrace.columns import Batch, Column, DType, RowError, Rows
from headrace.comparison import (
    ComparisonReport,
    DifferentRow,
    QuantileSketch,
    RowContext,
    WorstRows,
    differences,
    merged,
    shown,
)
from headrace.comparison.messages import read_report, write_report
from headrace.hop.errors import Code, Reason

BROKEN = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "the model broke")


def batch(columns: Sequence[Column], errors: dict[int, RowError] | None = None, ids: str = "") -> Batch:
    count = len(columns[0])
    rows = Rows(list(ids or "r" * count), ["t"] * count, [1] * count, [math.inf] * count, [""] * count)
    return Batch(rows, {c.name: c for c in columns}, errors or {})


def test_floats_are_compared_by_their_bits_or_within_a_tolerance() -> None:
    one = Column.of("y", np.array([1.0, 0.0, np.nan, np.inf, 2.0, np.inf]))
    other = Column.of("y", np.array([1.0, -0.0, np.nan, np.inf, 2.5, np.nan]))
    found = differences(one, other)
    assert found.differs.tolist() == [False, True, False, False, True, True]
    assert found.deltas is not None
    assert found.deltas.tolist() == [0.0, 0.0, 0.0, 0.0, 0.5, math.inf]
    assert differences(one, other, 0.6).differs.tolist() == [False] * 5 + [True]


def test_a_tolerance_may_be_relative_to_the_old_value() -> None:
    one = Column.of("y", np.array([[100.0, 1.0], [100.0, 1.0], [100.0, 1.0], [np.inf, 1.0], [np.inf, 1.0]]))
    other = Column.of("y", np.array([[100.9, 1.0], [101.1, 1.0], [100.0, 1.02], [np.inf, 1.0], [1e9, 1.0]]))
    assert differences(one, other, 0.0, 0.01).differs.tolist() == [False, True, True, False, True]
    assert differences(one, other, 0.5, 0.01).differs.tolist() == [False, False, False, False, True]


def test_a_row_of_several_elements_differs_by_its_greatest() -> None:
    one = Column.of("y", np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    other = Column.of("y", np.array([[1.5, 2.0], [3.0, 4.0]], np.float32))
    found = differences(one, other)
    assert found.differs.tolist() == [True, False]
    assert found.deltas is not None
    assert found.deltas.tolist() == [0.5, 0.0]


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        (Column.of_text("k", ["a", "b"]), Column.of_text("k", ["a", "c"]), [False, True]),
        (Column.of_text("k", ["a", None]), Column.of_text("k", ["a", None]), [False, False]),
        (Column.of_text("k", ["a", None]), Column.of_text("k", [None, ""]), [True, True]),
        (Column.of("k", np.array([1, 2])), Column.of("k", np.array([1, 3])), [False, True]),
        (Column.of("k", np.array([1, 2])), Column.of("k", np.array([1.0, 2.0])), [True, True]),
        (
            Column.of("k", np.array([1.0, 2.0]), np.array([True, False])),
            Column.of("k", np.array([1.0, 9.0]), np.array([True, False])),
            [False, False],
        ),
        (
            Column.of_bytes("k", [b"a", b"b", b"c", b"d"], (2,)),
            Column.of_bytes("k", [b"a", b"b", b"d", b"c"], (2,)),
            [False, True],
        ),
    ],
)
def test_other_types_are_equal_or_not(one: Column, other: Column, differs: list[bool]) -> None:
    assert differences(one, other).differs.tolist() == differs


def test_values_are_shown_shortly() -> None:
    assert len(shown(Column.of_text("k", ["a" * 90]), 0)) == 80
    assert shown(Column.of_text("k", [None]), 0) == "null"
    assert shown(Column.of("k", np.array([0.1], np.float32)), 0) == "0.1"
    assert shown(Column.of("k", np.array([[1, 2]])), 0) == "[1, 2]"


def taken(row: int) -> RowContext:
    ids = "aabbc"
    return RowContext(ids[:row].count(ids[row]), batch([Column.of("x", np.array([7.0]))]), ("name",))


def counted() -> ComparisonReport:
    report = ComparisonReport("p", 3, "next", "live", "e1")
    live = batch(
        [Column.of("y", np.array([1.0, 2.0, 3.0, 4.0, 5.0])), Column.of("late", np.array([True] * 5))],
        {3: BROKEN},
        "aabbc",
    )
    shadow = batch(
        [
            Column.of("y", np.array([1.0, 2.25, 3.0, 4.0, 5.0])),
            Column.of("late", np.array([True, True, False, True, True])),
        ],
        {4: BROKEN},
        "aabbc",
    )
    assert report.add(live, shadow, ["y", "late"], taken, np.array([0.002] * 4 + [np.nan]), 0.004) == 3
    return report


def test_a_report_counts_pairs_and_keeps_the_worst() -> None:
    report = counted()
    assert (report.both_answered, report.shadow_failed, report.live_failed, report.both_failed) == (
        3,
        1,
        1,
        0,
    )
    y, late = report.outputs["y"], report.outputs["late"]
    assert (y.rows, y.equal, y.deltas.zeros) == (3, 2, 2)
    assert y.deltas.max == 0.25
    assert (late.rows, late.equal, late.live_true, late.shadow_true) == (3, 2, 1, 0)
    assert report.errors == {"MODEL_FAILED": 1}
    assert report.live_seconds.count == report.shadow_seconds.count == 4
    assert [(r.request_id, r.row, r.score) for r in report.worst.sorted()] == [
        ("c", 0, 3.0),
        ("b", 0, 2.0),
        ("a", 1, 0.2),
    ]
    assert report.worst.sorted()[0].error == "MODEL_FAILED: the model broke"
    assert report.worst.sorted()[1].values == [("late", "True", "False")]


def test_reports_of_two_replicas_add_up_over_the_wire() -> None:
    parts = []
    for epoch in ("e1", "e2"):
        report = counted()
        report.epoch = epoch
        report.drop("queue_rows", 4)
        message = shadow_pb2.ShadowReport()
        write_report(report, message)
        parts.append(read_report(shadow_pb2.ShadowReport.FromString(message.SerializeToString())))
    other = ComparisonReport("p", 4, "next", "live", "e1")
    newest, both = merged([*parts, other])
    assert newest.release == 4
    assert (both.rows, both.epoch, both.dropped) == (10, "e1 e2", {"queue_rows": 8})
    assert both.outputs["y"].deltas.count == 6
    assert both.outputs["late"].dtype is DType.BOOL
    assert len(both.worst.sorted()) == 6
    inputs = both.worst.sorted()[0].inputs
    assert inputs is not None
    assert inputs.columns["x"].array.tolist() == [7.0]
    assert both.worst.sorted()[0].left_out == ["name"]


@given(st.lists(st.floats(0.01, 3), max_size=100))
def test_the_worst_are_the_highest_scores_first_come_first(scores: list[float]) -> None:
    worst = WorstRows()
    for i, score in enumerate(scores):
        worst.add(DifferentRow(str(i), 0, score))
    wanted = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:20]
    assert [row.request_id for row in worst.sorted()] == [str(i) for i in wanted]


values = st.lists(st.floats(0, 1e8, allow_subnormal=False), min_size=1, max_size=300)


@given(values, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_within_one_percent(given_values: list[float], q: float) -> None:
    sketch = QuantileSketch()
    sketch.add(np.array(given_values))
    ordered = sorted(given_values)
    wanted = ordered[math.floor(q * (len(ordered) - 1))]
    assert sketch.quantile(q) == pytest.approx(wanted, rel=0.0101, abs=1e-9)
    assert (sketch.count, sketch.max) == (len(given_values), ordered[-1])
    assert sketch.mean == pytest.approx(sum(ordered) / len(ordered))


@given(values, values)
def test_sketches_of_two_processes_add_up(one: list[float], other: list[float]) -> None:
    first, second, both = QuantileSketch(), QuantileSketch(), QuantileSketch()
    first.add(np.array(one))
    second.add(np.array(other))
    both.add(np.array(one + other))
    first.merge(second)
    assert (first.buckets, first.zeros, first.max) == (both.buckets, both.zeros, both.max)
    assert first.sum == pytest.approx(both.sum)


def test_a_sketch_is_bounded_and_takes_anything() -> None:
    sketch = QuantileSketch()
    sketch.add(10.0 ** np.linspace(-300, 300, 100_000))
    sketch.add(np.array([np.inf, np.nan, 0.0]), times=2)
    assert len(sketch.buckets) <= 2074
    assert (sketch.infinite, sketch.count) == (4, 100_006)
    assert sketch.quantile(1.0) == math.inf
    assert math.isnan(QuantileSketch().quantile(0.5))
    assert math.isnan(QuantileSketch().mean)
