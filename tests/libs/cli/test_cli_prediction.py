"""What a person types and reads around a prediction; files as its inputs."""

import base64
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from headrace.cli.commands.requests import prediction
from headrace.client import FeatureAge, ModelUse, Prediction, PredictResult, RowFailure
from headrace.hop.errors import Code

MODEL = ModelUse("flights_light", "2", "cd" * 32, "light")
AGES = {"weather": FeatureAge("present", 1500), "planes": FeatureAge("not_found", None)}


def result(*predictions: Prediction) -> PredictResult:
    return PredictResult("r-1", "flights", 3, "ab" * 32, (MODEL,), predictions, "12" * 16)


def drawn(answer: PredictResult, row: dict[str, object]) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(prediction.draw(answer, row))
    return console.export_text()


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
    text = drawn(answer, {"hour": 17, "image": "x" * 100_000})
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
