"""Events → counts of answers, over the groups that routers send."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.columns import Batch, Column, DType, Ragged, Rows
from headrace.events import EventGroup, GroupHeader
from headrace.hop.errors import Code, Reason
from services.monitoring.guards.answers import TENANTS, Answers
from services.monitoring.guards.counter import LEARNED, AnswerCounter, Wanted

NAN, INF = float("nan"), float("inf")
WANTED = Wanted(2, ("live", "candidate"), ranges={"y": (0.0, 10.0)}, segments={"kind": (b"a", b"b")})


def group(
    y: Any, arm: str = "candidate", release: int = 2, *, mine: Sequence[str] = ("acme",), **columns: Any
) -> EventGroup:
    """Events of single rows, all in one batch, unless `columns` say otherwise (`row=[…]` is `@row`)."""
    y = np.asarray(y, np.float32)
    count = len(y)
    valid = columns.pop("valid", None)
    facts = {
        "time_us": 5,
        "row": 0,
        "code": 0,
        "reason": 0,
        "latency_us": 100,
        "busy_us": 10,
        "cached": 0,
    } | columns
    kinds = {"row": DType.UINT32, "code": DType.UINT8, "reason": DType.UINT16, "cached": DType.BOOL}
    made = [Column("y", DType.FLOAT32, y, y.shape[1:], None if valid is None else np.array(valid, bool))]
    for name, values in facts.items():
        if name == "key":
            words = np.stack([np.array(values, "<u8")] * 2, axis=1)
            offsets = np.arange(0, 16 * count + 1, 16, dtype=np.uint32)
            made.append(Column("@key", DType.BYTES, Ragged(offsets, words.tobytes())))
        elif name in ("kind", "label"):
            made.append(Column.of_text(name, values))
        else:
            kind = kinds.get(name, DType.INT64)
            made.append(Column(f"@{name}", kind, np.broadcast_to(np.array(values, kind.numpy), count).copy()))
    outputs = ("y", "label") if "label" in facts else ("y",)
    header = GroupHeader("p", 1, "f" * 64, arm, release, inputs=("kind",), outputs=outputs)
    tenants = [mine[i % len(mine)] for i in range(count)]
    rows = Rows([""] * count, tenants, [0] * count, [0.0] * count, [""] * count)
    return EventGroup(header, Batch.of(rows, made))


def counted(*groups: EventGroup, wanted: Wanted = WANTED, arm: str = "candidate") -> Answers:
    counter = AnswerCounter()
    counter.taken("p", wanted, 0.0)
    for each in groups:
        counter.observe_group(each, 1.0)
    return counter.taken("p", wanted, 1.0).get((2, arm), Answers())


def bad(answers: Answers) -> list[list[int]]:
    """(units, bad ones): not finite, null, out of range."""
    found: list[list[int]] = answers.bad.tolist()
    return found


def test_requests_are_counted_and_not_rows() -> None:
    # Three requests: of three rows, of one, and of two.
    found = group([NAN, INF, 1, 2, 11, 12], row=[0, 1, 2, 0, 0, 1])
    assert bad(counted(found)) == [[3, 1], [3, 0], [3, 1]]
    nulls = group([1, 0, 2], valid=[True, False, True])
    assert bad(counted(nulls)) == [[3, 0], [3, 1], [3, 0]]
    assert bad(counted(group([[1, NAN], [2, -1]]))) == [[2, 1], [2, 0], [2, 1]]


def test_where_arms_stick_to_keys_a_key_is_bad_once_in_whichever_arm() -> None:
    sticky = replace(WANTED, by_key=True)
    first = group([NAN, 1, NAN], key=[7, 8, 7])
    again = group([NAN, NAN, 1], key=[7, 9, 8], arm="live")
    assert bad(counted(first, wanted=sticky))[0] == [3, 1]
    assert bad(counted(first, again, wanted=sticky, arm="live"))[0] == [2, 1]


@pytest.mark.parametrize(
    "other",
    [
        replace(group([NAN]), header=replace(group([NAN]).header, shadow_of="live")),
        replace(group([NAN]), header=replace(group([NAN]).header, replayed=True)),
        group([NAN], arm="third"),
        group([NAN], release=1),
        group([NAN], cached=1),
        group([NAN], valid=[False], code=int(Code.INTERNAL)),
    ],
)
def test_what_callers_did_not_get_from_the_version_is_left_out(other: EventGroup) -> None:
    assert bad(counted(other)) == [[0, 0]] * 3


def learned(**columns: Any) -> EventGroup:
    """As many rows of the live arm as bins are made of, in ten batches."""
    return group(np.arange(LEARNED) / 100, "live", time_us=np.arange(LEARNED) * 10 // LEARNED, **columns)


def test_bins_are_made_of_the_first_answers_and_then_both_are_counted() -> None:
    answers = counted(learned(), group([-50.0, 0.1, 4.9, 1e9, NAN]))
    assert answers.plan is not None
    assert [answers.plan.element(0), len(answers.plan.bins[0])] == ["y", 9]
    assert answers.values[0, 0].tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    labels = [["no", "yes"][i % 2] for i in range(LEARNED)]
    texts = counted(learned(label=labels), group([1, 1, 1], label=["yes", "yes", "maybe"]))
    assert texts.values[0, 1].sum() == 3
    assert sorted(texts.values[0, 1].tolist())[-2:] == [1, 2]


def test_segments_and_the_largest_tenants_are_counted_by_themselves() -> None:
    tenants = [f"t{i}" for i in range(TENANTS + 3) for _ in range(20 - i)]
    start = learned(kind=["a", "c"] * (LEARNED // 2), mine=tenants)
    fault: dict[str, Any] = {"code": [0, 0, int(Code.INTERNAL)], "reason": int(Reason.REASON_UNSPECIFIED)}
    answers = counted(start, group([1, 2, 3], kind=["a", "b", "c"], mine=["t0", "t0", "t12"], **fault))
    plan = answers.plan
    assert plan is not None
    assert plan.parts[:4] == ("all", "kind=a", "kind=b", "")
    assert plan.parts[51] == "tenant t0"
    assert answers.failed[[0, 1, 2, 51]].tolist() == [[3, 1], [1, 0], [1, 0], [2, 0]]
    callers = counted(
        start, group([1], kind=["a"], code=int(Code.INVALID_ARGUMENT), reason=int(Reason.REASON_INPUT_RANGE))
    )
    assert callers.failed[1].tolist() == [1, 0]


def test_a_batch_has_one_time_and_one_cost_however_many_rows_it_has() -> None:
    times: dict[str, Any] = {
        "time_us": [1, 1, 1, 2],
        "latency_us": [900, 900, 900, 1],
        "busy_us": [99, 99, 99, 1],
    }
    answers = counted(learned(kind=["a"] * LEARNED), group([1] * 4, kind=["a", "a", "b", "a"], **times))
    assert answers.slow[:3].tolist() == [[2, 1], [2, 1], [1, 1]]
    assert answers.costly.tolist() == [2, 1]


def test_a_pipeline_that_nobody_judges_any_more_is_not_counted() -> None:
    counter = AnswerCounter()
    counter.observe_group(group([NAN]), 0.0)
    counter.taken("p", WANTED, 0.0)
    counter.observe_group(group([NAN]), 100.0)
    assert not counter.taken("p", WANTED, 100.0)
