"""Rows compared in pairs: what differs, is counted and kept, and the message that says it."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.monitoring.v1 import shadow_pb2 as pb
from headrace.columns import Batch, Column, DType, RowError, Rows
from headrace.comparison import ComparisonReport, differences, quantiles, shown
from headrace.hop.errors import Code, Reason

BROKEN = RowError(Code.INTERNAL, Reason.REASON_MODEL_FAILED, "the model broke")


def batch(
    columns: Sequence[Column], errors: dict[int, RowError] | None = None, ids: Sequence[str] = ()
) -> Batch:
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


def counted(parts: int = 1) -> pb.ShadowReport:
    """Of so many batches."""
    report, ids = ComparisonReport(), "abcde"
    late = Column.of("late", np.array([True] * 5))
    live = batch([Column.of("y", np.array([1.0, 2.0, 3.0, 4.0, 5.0])), late], {3: BROKEN}, ids)
    changed = Column.of("late", np.array([True, True, False, True, True]))
    shadow = batch([Column.of("y", np.array([1.0, 2.25, 3.0, 4.0, 5.0])), changed], {4: BROKEN}, ids)
    for _ in range(parts):
        assert report.add(live, shadow, ["y", "late"]) == 3
    return report.message()


def test_a_report_counts_pairs_and_keeps_the_worst() -> None:
    found = counted()
    assert (found.both_answered_count, found.both_failed_count) == (3, 0)
    assert (found.shadow_failed_count, found.live_failed_count) == (1, 1)
    y, late = found.outputs
    assert (y.name, y.row_count, y.equal_count, y.data_type) == ("y", 3, 2, DType.FLOAT64)
    assert y.deltas == pb.Quantiles(value_count=3, p90=0.25, p99=0.25, max=0.25)
    assert (late.row_count, late.equal_count, late.live_true_count, late.shadow_true_count) == (3, 2, 1, 0)
    assert not late.deltas.value_count
    assert found.shadow_errors == {"MODEL_FAILED": 1}
    assert [(r.prediction_id, r.score) for r in found.worst] == [("e", 3.0), ("c", 2.0), ("b", 0.2)]
    assert found.worst[0].shadow_error == "MODEL_FAILED: the model broke"
    assert found.worst[1].values == [pb.DifferentValue(output="late", live="True", shadow="False")]


def test_batches_add_up() -> None:
    found = counted(8)
    assert (found.both_answered_count, len(found.worst), found.shadow_errors["MODEL_FAILED"]) == (24, 20, 8)
    assert (found.outputs[0].deltas.value_count, found.outputs[0].deltas.p50) == (24, 0.0)


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=100), st.integers(0, 100))
def test_the_worst_are_the_highest_scores_first_come_first(deltas: list[float], cut: int) -> None:
    report, parts = ComparisonReport(), [p for p in (range(len(deltas))[:cut], range(len(deltas))[cut:]) if p]
    for part in parts:
        zeros, found = np.zeros(len(part)), np.array([deltas[i] for i in part])
        old, new = batch([Column.of("y", zeros)], ids=[str(i) for i in part]), batch([Column.of("y", found)])
        report.add(old, new, ["y"])
    wanted = sorted(range(len(deltas)), key=lambda i: (-deltas[i] / (1 + deltas[i]), i))[:20]
    assert [row.prediction_id for row in report.message().worst] == [str(i) for i in wanted]


def test_quantiles_are_values_that_are_there_and_infinite_ones_the_greatest() -> None:
    found = quantiles([np.arange(100.0, 0.0, -1.0), np.array([])])
    assert found == pb.Quantiles(value_count=100, p50=50.0, p90=90.0, p99=99.0, max=100.0)
    assert quantiles([np.array([1.0, np.inf])]) == pb.Quantiles(
        value_count=2, p50=1.0, p90=math.inf, p99=math.inf, max=math.inf
    )
    assert quantiles([]) == pb.Quantiles()
