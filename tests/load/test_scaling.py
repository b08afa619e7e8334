"""What the tables of `scaling` are made of: whose CPU it was, who sends how much, what is said of it; rows of a message."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.oip import open_inference_pb2 as oip
from load.generator.closed_loop import Figures, Target, plan
from load.generator.flight_requests import infer_message, rows_message
from load.scenarios.closed import Point
from load.scenarios.scaling.replicas import balance
from load.scenarios.scaling.rows import Line, services_table, verdict
from load.scenarios.scaling.table import Found, shares
from load.scenarios.scaling.tenants import zipf


def figures(rate: float = 100.0, server_us: float = 200.0) -> Figures:
    return Figures(rate, 1000.0, 2000.0, server_us, 20.0, 0, 0.0, "verified")


def target(**more: object) -> Target:
    return Target("host:1", [b"a", b"b"], "key", frozenset(), lambda _: "", **more)  # type: ignore[arg-type]  # its own fields


def test_shares_are_parts_of_the_sum() -> None:
    assert shares({"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 0.0, "b": 0.0}) == {"a": 0.0, "b": 0.0}


def test_each_service_gets_its_part_of_the_cpu_of_a_request() -> None:
    found = Found(Point([figures(server_us=400)]), {"router": 0.75, "features": 0.25}, {})
    table = services_table([Line("apart", 1, 8, found)])
    assert table.splitlines()[-1] == "| 1 | 8 | 300 | 100 |"


def test_a_balance_is_among_the_replicas_of_that_service_alone() -> None:
    found = {"executor": 0.3, "executor.1": 0.1, "router": 0.6}
    assert balance("2 × executor", "executor", 64, found).endswith("executor: 75% / 25%")


@pytest.mark.parametrize(("times", "said"), [(25.0, "holds"), (24.9, "SHORT")])
def test_the_aim_is_judged(times: float, said: str) -> None:
    assert said in verdict("apart", times)


def test_skewed_tenants_send_in_falling_parts_of_one() -> None:
    parts = zipf(100)
    assert sum(parts) == pytest.approx(1)
    assert parts == sorted(parts, reverse=True)
    assert parts[0] / parts[1] == pytest.approx(2**1.1)


def test_callers_send_their_parts() -> None:
    made = plan(target(keys=["a", "b", "c"], shares=[0.7, 0.2, 0.1]), 8, 1.0, seed=1)
    assert [c.key for c in made.callers] == ["a", "b", "c"]
    parts = np.bincount(made.who, minlength=3) / len(made.who)
    assert parts == pytest.approx([0.7, 0.2, 0.1], abs=0.02)


def test_without_keys_of_several_there_is_one_caller() -> None:
    made = plan(target(), 8, 1.0, seed=1)
    assert [c.key for c in made.callers] == ["key"]
    assert not made.who.any()


def test_rows_of_a_message_lie_one_behind_the_other() -> None:
    rows = [{"carrier": "UA", "hour": 3}, {"carrier": "", "hour": 23}]
    message = oip.ModelInferRequest.FromString(rows_message("flights", rows, {"hour": "h"}))
    assert [(i.name, i.datatype, list(i.shape)) for i in message.inputs] == [
        ("carrier", "BYTES", [2]),
        ("h", "INT32", [2]),
    ]
    assert list(message.raw_input_contents) == [b"\2\0\0\0UA\0\0\0\0", b"\3\0\0\0\x17\0\0\0"]


def test_one_row_is_a_message_of_one() -> None:
    row = {"carrier": "UA", "hour": 3}
    assert infer_message("flights", row) == rows_message("flights", [row])


def test_failures_are_told_by_their_codes() -> None:
    point = Point([replace(figures(), codes={3: 5, 255: 1}), replace(figures(), codes={3: 2})])
    assert point.codes() == "INVALID_ARGUMENT 7, PENDING 1"
