"""`headrace explain`, `outcomes post` and `predict`, as a person types and reads them: what is shown, and every mistake named."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from headrace.api.monitoring.v1 import explanations_pb2 as pb
from headrace.cli.commands.operations import explain_views
from headrace.cli.commands.operations.explain_views import Column, Shown
from headrace.cli.commands.requests import outcomes as command
from headrace.cli.commands.requests import prediction
from headrace.cli.main import app
from headrace.client import FeatureAge, ModelUse, Outcome, Prediction, PredictResult, RowFailure
from headrace.hop.errors import Code

COLUMNS = [
    Column("month", "12", -0.5, 0.01, "baseline", "6.000000001"),
    Column("carrier", '"UA"', 0.25, 0.01, "document", '"B6"'),
    Column("name", "", 0.0, 0.0, "null"),
]


def drawn(found: object) -> list[str]:
    console = Console(width=120, color_system=None)
    with console.capture() as captured:
        console.print(found)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_bars_go_left_and_right_of_the_middle() -> None:
    shown = Shown("flights", "late", 0.75, 0.5, False, COLUMNS, "ab" * 16)
    lines = drawn(explain_views.draw(shown))
    assert "late = 0.5, that is -0.25 from the base row's 0.75 (estimated)" in lines[0]
    month, carrier, name = lines[-3:]
    assert month.endswith("█" * 12 + "│")
    assert carrier.endswith("│" + "█" * 6)
    assert "UA" in carrier
    assert '"' not in carrier
    assert "(personal)" in name
    assert month.split()[:5] == ["month", "12", "6", "-0.5", "0.01"]


def test_exact_ones_have_no_standard_error_and_nothing_added_has_no_bar() -> None:
    assert explain_views.bar(0.0, 0.0).plain.strip() == "│"
    lines = drawn(explain_views.draw(Shown("p", "y", 0.0, 1.0, True, COLUMNS, "")))
    assert "these inputs" in lines[0]
    assert "s.e." not in lines[2]


def test_groups_are_shown_with_intervals() -> None:
    reply = pb.GetBiasSlicesResponse(output="late", prediction_count=105)
    mean = pb.BiasMean(prediction_count=100, mean=0.25, low=0.2, high=0.3)
    reply.slices.add(group="UA", group_count=1, output=mean, wrong=mean)
    reply.slices.add(group_count=2, output=pb.BiasMean(prediction_count=5))
    lines = drawn(explain_views.slices(reply, "carrier"))
    assert lines[0] == "105 predictions"
    assert lines[3].split()[:6] == ["UA", "100", "0.25", "0.2", "to", "0.3"]
    assert lines[4].startswith("(2 small groups)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "prediction"], "name a prediction, or a pipeline"),
        (["explain", "ab" * 16, "--pipeline", "flights"], "name a prediction, or a pipeline"),
        (["explain", "ab" * 16, "--input", "x=1"], "leave --input away"),
        (["explain", "--pipeline", "flights", "--input", "x"], "NAME=VALUE"),
        (["explain", "ab" * 16], "no monitoring service runs here"),
        (["explain", "coverage"], "no monitoring service runs here"),
        (["explain", "bias", "flights", "--by", "carrier"], "no monitoring service runs here"),
        (["outcomes", "post", "/dev/null"], "holds no outcomes"),
        (["outcomes", "post", "lines"], "not running"),
    ],
)
def test_mistakes_are_said(
    tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines").write_text('{"request_id": "a", "name": "late", "value": true}')
    found = CliRunner().invoke(app, [*arguments, "--home", str(tmp_path)])
    assert (found.exit_code, words in " ".join(found.output.split())) == (1, True)


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


MODEL = ModelUse("flights_light", "2", "cd" * 32, "light")
AGES = {"weather": FeatureAge("present", 1500), "planes": FeatureAge("not_found", None)}


def result(*predictions: Prediction) -> PredictResult:
    return PredictResult("r-1", "flights", 3, "ab" * 32, (MODEL,), predictions, "12" * 16)


def test_inputs_are_json_where_they_read_as_json() -> None:
    pairs = ["hour=17", "origin=JFK", "note=a=b", "on=true", 'dest="12"', "tailnum=null"]
    read = {"hour": 17, "origin": "JFK", "note": "a=b", "on": True, "dest": "12", "tailnum": None}
    assert prediction.parse_inputs(pairs) == read


@pytest.mark.parametrize("text", ["hour", "=3", ""])
def test_an_input_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        prediction.parse_inputs([text])


def test_the_table_shows_what_the_answer_stands_on() -> None:
    answer = result(Prediction({"probability": 0.25}, ("features/planes:not_found",), AGES, None))
    text = "\n".join(drawn(prediction.draw(answer, {"hour": 17, "image": "x" * 100_000})))
    for part in ("hour=17", "0.25", "present, 2s old", "not_found", "flights_light version 2", "r-1"):
        assert part in text
    assert "planes:not_found" in text
    assert "… (100000 characters)" in text
    assert len(text) < 1500


def test_json_has_the_contracts_names() -> None:
    wrong = RowFailure(Code.INVALID_ARGUMENT, "INPUT_RANGE", "hour is 99", {"input": "hour"})
    good = Prediction({"probability": 0.25}, (), AGES, None)
    shown = json.loads(prediction.as_json(result(good, Prediction({}, (), {}, wrong))))
    assert " ".join(shown) == "request_id pipeline version revision models predictions trace_id"
    assert shown["predictions"][0] == {
        "outputs": {"probability": 0.25},
        "features": {
            "weather": {"source": "present", "age_ms": 1500},
            "planes": {"source": "not_found", "age_ms": None},
        },
    }
    assert shown["predictions"][1]["error"]["reason"] == "INPUT_RANGE"
    assert shown["models"][0]["sha256"] == "cd" * 32


def test_no_prepared_rows_is_none(tmp_path: Path) -> None:
    assert prediction.sample(tmp_path / "none.jsonl") is None
    (tmp_path / "rows.jsonl").write_text('{"hour": 1}\n{"hour": 2}\n')
    assert prediction.sample(tmp_path / "rows.jsonl") == {"hour": 1}


def test_a_file_becomes_base64(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    row = prediction.read_files([f"image={tmp_path}/a.jpg"])
    assert base64.b64decode(row["image"]) == b"\xff\xd8"


@pytest.mark.parametrize(
    ("pair", "says"),
    [("image", "is not NAME=PATH"), ("=x", "is not NAME=PATH"), ("image=/no/x", "can't read /no/x")],
)
def test_what_is_no_file_is_named(pair: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        prediction.read_files([pair])
