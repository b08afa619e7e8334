"""What a person types and reads around a prediction."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from headrace.api.inference.v1 import inference_pb2 as pb
from headrace.cli import predicting
from headrace.hop.errors import Code


def test_inputs_are_json_where_they_read_as_json() -> None:
    pairs = ["hour=17", "origin=JFK", "note=a=b", "on=true", 'dest="12"', "tailnum=null"]
    assert predicting.parse_inputs(pairs) == {
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
        predicting.parse_inputs([text])


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 s"),
        (1_500, "1.5 s"),
        (119_000, "119 s"),
        (600_000, "10 min"),
        (7_200_000, "2 h"),
        (864_000_000, "10 days"),
    ],
)
def test_ages_read_as_a_person_says_them(ms: int, text: str) -> None:
    assert predicting.duration(ms) == text


def test_the_table_shows_what_the_answer_stands_on() -> None:
    answer = pb.PredictResponse(request_id="r-1", pipeline="flights", version=3, revision="ab" * 32)
    answer.models.add(model="flights_light", version="2", sha256="cd" * 32)
    prediction = answer.predictions.add(fallbacks=["features/planes:not_found"])
    prediction.outputs.update({"probability": 0.25})
    prediction.features["weather"].source = "present"
    prediction.features["weather"].age_ms = 1500
    prediction.features["planes"].source = "not_found"
    console = Console(width=120, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(predicting.draw(answer, {"hour": 17}))
    text = shown.get()
    for part in (
        "hour=17",
        "0.25",
        "present, 1.5 s old",
        "not_found",
        "flights_light version 2",
        "r-1",
        "planes:not_found",
    ):
        assert part in text


def test_nobody_there_says_what_to_do() -> None:
    with pytest.raises(predicting.PredictError, match="check that it runs") as raised:
        predicting.predict("127.0.0.1:1", "key", "flights", [{"hour": 17}])
    assert raised.value.code is Code.UNAVAILABLE


def test_no_prepared_rows_is_none(tmp_path: Path) -> None:
    assert predicting.sample(tmp_path / "none.jsonl") is None
    (tmp_path / "rows.jsonl").write_text('{"hour": 1}\n{"hour": 2}\n')
    assert predicting.sample(tmp_path / "rows.jsonl") == {"hour": 1}
