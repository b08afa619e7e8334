"""Rows of a message, the tables of CAPACITY.md."""

import pytest

from headrace.oip import open_inference_pb2 as oip
from load.__main__ import main
from load.generator.flight_requests import rows_message
from load.scenarios import capacity


def test_rows_of_a_message_lie_one_behind_the_other() -> None:
    rows = [{"carrier": "UA", "hour": 3}, {"carrier": "", "hour": 23}]
    message = oip.ModelInferRequest.FromString(rows_message("flights", rows, {"hour": "h"}))
    assert [(i.name, i.datatype, list(i.shape)) for i in message.inputs] == [
        ("carrier", "BYTES", [2]),
        ("h", "INT32", [2]),
    ]
    assert list(message.raw_input_contents) == [b"\2\0\0\0UA\0\0\0\0", b"\3\0\0\0\x17\0\0\0"]


def test_the_tables_of_the_page_are_those_of_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    main(["capacity"])
    told = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("| 100,000 |") for row in told) == 4
    page = (capacity.FIGURES.parent / "CAPACITY.md").read_text().splitlines()
    assert [row for row in told if row and row not in page] == [], (
        "python -m load capacity says otherwise now"
    )
