"""Files as inputs of `headrace predict`."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from rich.console import Console

from headrace.cli.commands.requests import prediction
from headrace.client import PredictResult


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
