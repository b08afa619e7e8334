"""`headrace outcomes post`: what a person types, and every mistake is named with its line."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.commands.requests import outcomes as command
from headrace.cli.main import app
from headrace.client import Outcome


def test_lines_become_outcomes() -> None:
    lines = [
        '{"request_id": "a", "name": "late", "value": true}',
        "",
        '{"request_id": "b", "row": 2, "name": "revenue", "value": 3, "time": "2026-01-02T03:04:05+00:00"}',
    ]
    assert list(command.read_lines(lines, "f")) == [
        Outcome("a", "late", True),
        Outcome("b", "revenue", 3.0, 2, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "no JSON"),
        ("[]", "should be an object"),
        ('{"name": "late", "value": true}', "'request_id'"),
        ('{"request_id": "a", "name": "late", "value": true, "when": 1}', "'when'"),
        ('{"request_id": "a", "name": "late", "value": "maybe"}', "value should be"),
        ('{"request_id": "a", "name": "late", "value": null}', "value should be"),
        ('{"request_id": "a", "name": "late", "value": 1, "row": -1}', "row should be"),
        ('{"request_id": "a", "name": "late", "value": 1, "row": true}', "row should be"),
        ('{"request_id": "a", "name": "late", "value": 1, "time": "yesterday"}', "ISO 8601"),
        ('{"request_id": "a", "name": "late", "value": 1, "time": "2026-01-02"}', "time zone"),
    ],
)
def test_mistakes_name_file_line_and_key(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^data\.jsonl, line 2: ") as raised:
        list(command.read_lines(["", line], "data.jsonl"))
    assert problem in str(raised.value)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("2", 2.0), ("-1e3", -1000.0)])
def test_values_are_read_as_typed(text: str, value: bool | float) -> None:
    found = command.read_value(text)
    assert (found, type(found)) == (value, type(value))


def test_it_says_when_nothing_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["outcomes", "post", "--home", str(tmp_path), "--id", "r"])
    assert done.exit_code == 1
    assert "not running" in done.output


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "give a FILE"),
        (["file", "--id", "r"], "give a FILE"),
        (["--id", "r"], "--name and --value"),
        (["--id", "r", "--name", "late", "--value", "maybe"], "true, false or a number"),
        (["/dev/null"], "holds no outcomes"),
    ],
)
def test_half_an_outcome_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], problem: str
) -> None:
    monkeypatch.setattr("headrace.cli.supervision.daemon.running", lambda _: True)
    done = CliRunner().invoke(app, ["outcomes", "post", "--home", str(tmp_path), *options])
    assert done.exit_code == 1
    assert problem in " ".join(done.output.split())
