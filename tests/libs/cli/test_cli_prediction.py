"""What a person types and reads around a prediction; files as its inputs."""

import base64
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from headrace.cli.commands.requests import prediction
from headrace.client import FeatureAge, ModelUse, Prediction, PredictResult, RowFailure, UnavailableError
from headrace.hop.errors import Code

MODEL = ModelUse("flights_light", "2", "cd" * 32, "light")
AGES = {"weather": FeatureAge("present", 1500), "planes": FeatureAge("not_found", None)}


def result(*predictions: Prediction) -> PredictResult:
    return PredictResult("r-1", "flights", 3, "ab" * 32, (MODEL,), predictions, "12" * 16)


def test_inputs_are_json_where_they_read_as_json() -> None:
    pairs = ["hour=17", "origin=JFK", "note=a=b", "on=true", 'dest="12"', "tailnum=null"]
    assert prediction.parse_inputs(pairs) == {
        "hour": 17,
        "origin": "JFK",
        "note": "a=b",
        "on": True,
        "dest": "12",
        "tailnum": None,
    }


@pytest.mark.parametrize("text", ["hour", "=3", ""])
def test_an_input_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME=VALUE"):
        prediction.parse_inputs([text])


def test_the_table_shows_what_the_answer_stands_on() -> None:
    answer = result(Prediction({"probability": 0.25}, ("features/planes:not_found",), AGES, None))
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(prediction.draw(answer, {"hour": 17}))
    text = shown.get()
    for part in (
        "hour=17",
        "0.25",
        "present, 2s old",
        "not_found",
        "flights_light version 2",
        "r-1",
        "planes:not_found",
    ):
        assert part in text


def test_json_has_the_contracts_names() -> None:
    wrong = RowFailure(Code.INVALID_ARGUMENT, "INPUT_RANGE", "hour is 99", {"input": "hour"})
    shown = json.loads(
        prediction.as_json(
            result(Prediction({"probability": 0.25}, (), AGES, None), Prediction({}, (), {}, wrong))
        )
    )
    assert {"request_id", "pipeline", "version", "revision", "models", "predictions", "trace_id"} == set(
        shown
    )
    assert shown["predictions"][0] == {
        "outputs": {"probability": 0.25},
        "features": {
            "weather": {"source": "present", "age_ms": 1500},
            "planes": {"source": "not_found", "age_ms": None},
        },
    }
    assert shown["predictions"][1]["error"]["reason"] == "INPUT_RANGE"
    assert shown["models"][0]["sha256"] == "cd" * 32


def test_nobody_there_says_what_to_do() -> None:
    with pytest.raises(UnavailableError, match="check that it runs"):
        prediction.predict("127.0.0.1:1", "key", "flights", [{"hour": 17}])


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


def test_a_long_value_is_not_printed_whole() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    answer = PredictResult("r-1", "moderation", 1, "", (), (), "")
    console.print(prediction.draw(answer, {"image": "x" * 100_000, "hour": 17}))
    text = console.export_text()
    assert "… (100000 characters)" in text
    assert "hour=17" in text
    assert len(text) < 500
