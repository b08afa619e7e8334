"""What the tables of `scaling` are made of: whose CPU it was, who sends how much, what is said of it; rows of a message.
What loads need: the tables of CAPACITY.md."""

from dataclasses import replace

import pytest

from headrace.oip import open_inference_pb2 as oip
from load.__main__ import main
from load.generator.closed_loop import Figures, Target, plan
from load.generator.flight_requests import rows_message
from load.scenarios import capacity
from load.scenarios.closed import Point
from load.scenarios.scaling import shares


def figures(rate: float = 100.0, server_us: float = 200.0) -> Figures:
    return Figures(rate, 1000.0, 2000.0, server_us, 20.0, 0, 0.0, "verified")


def target(**more: object) -> Target:
    return Target("host:1", [b"a", b"b"], "key", frozenset(), lambda _: "", **more)  # type: ignore[arg-type]  # its own fields


def test_shares_are_parts_of_the_sum() -> None:
    assert shares({"a": 3.0, "b": 1.0}) == {"a": 0.75, "b": 0.25}
    assert shares({"a": 0.0, "b": 0.0}) == {"a": 0.0, "b": 0.0}


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


def test_failures_are_told_by_their_codes() -> None:
    point = Point([replace(figures(), codes={3: 5, 255: 1}), replace(figures(), codes={3: 2})])
    assert point.codes() == "INVALID_ARGUMENT 7, PENDING 1"


def test_the_tables_of_the_page_are_those_of_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(["capacity"])
    told = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("| 100,000 |") for row in told) == 4
    page = (capacity.FIGURES.parent / "CAPACITY.md").read_text().splitlines()
    assert [row for row in told if row and row not in page] == [], (
        "python -m load capacity says otherwise now"
    )
