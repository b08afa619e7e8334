"""`check` refuses steps that would change whole numbers without a word."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.pipeline import check, parse
from tests.libs.pipeline.pipeline_documents import complaints


def document(inputs: str, steps: str, output: str) -> str:
    return f"""\
pipeline: whole
version: 1
deadline_ms: 100
inputs:
  n: {inputs}
  x: float64
stages:
  - preprocessing: prepare
    steps:
      - {steps}
    outputs: {{t: {output}}}
outputs: [t]
"""


def told(text: str) -> list[str]:
    return [f"{p.line}: {p.key}: {p.message}" for p in check(parse(text, "whole.yaml"), None, None)]


TENSOR = "assemble: {columns: [n], into: t}"
PAIR = "assemble: {columns: [n, x], into: t}"
CAST = "cast: {column: n, type: float32, into: t}"


def test_a_lossy_tensor_is_refused_with_what_to_write() -> None:
    [line] = told(document("int32", TENSOR.replace("[n]", "[n, x]"), "{type: float32, shape: [2]}"))
    assert line == (
        "10: stages[0].steps[0].assemble.columns[0]: 'n' is int32 (-2147483648 to 2147483647), and float32 has only the "
        "whole numbers from -16777216 to 16777216 exactly: declare a `range` of the input, write `type: float64` here, or "
        "`lossy: true`"
    )


@pytest.mark.parametrize(
    ("inputs", "steps", "output"),
    [
        ("int32", CAST, "float32"),
        ("int64", CAST.replace("float32", "float64"), "float64"),
        ("uint32", CAST, "float32"),
        ("{type: int64, range: [0, 16777217]}", CAST, "float32"),
        ("{type: int32, range: [0, 9], default: 99999999}", CAST, "float32"),
        ("int32", "rename: {columns: {n: t}}", "float32"),
        ("int32", "add: {left: n, right: n, into: t}", "float32"),
        ("int64", "add: {left: n, right: n, into: t}", "float64"),
        ("int32", "clip: {column: n, low: 0, into: t}", "float32"),
        ("int32", TENSOR, "{type: float32, shape: [1]}"),
        ("int64", "assemble: {columns: [n], into: t, type: float64}", "{type: float64, shape: [1]}"),
        ("int32", "impute: {columns: {n: 0.5}}, rename: {columns: {n: t}}", "float32"),
        # As the author was told before to cast the float32 that `assemble` made.
        ("int64", PAIR, "{type: float32, shape: [2]}"),
        ("{type: int32, range: [0, 1]}", PAIR, "{type: float64, shape: [2]}"),
    ],
)
def test_lossy_chains(inputs: str, steps: str, output: str) -> None:
    steps = steps.replace("}}, rename", "}}\n      - rename")
    assert told(document(inputs, steps, output))


@pytest.mark.parametrize(
    ("inputs", "steps", "output"),
    [
        ("int32", TENSOR, "{type: int32, shape: [1]}"),
        ("int32", TENSOR, "{type: int64, shape: [1]}"),
        ("int32", TENSOR, "{type: float64, shape: [1]}"),
        ("int16", TENSOR, "{type: float32, shape: [1]}"),
        ("{type: int32, range: [-16777216, 16777216]}", CAST, "float32"),
        ("{type: int64, choices: [1, 2]}", CAST, "float32"),
        ("int32", CAST.replace("float32", "float64"), "float64"),
        ("int32", CAST.replace("into", "lossy: true, into"), "float32"),
        ("int64", "assemble: {columns: [n, x], into: t, lossy: true}", "{type: float32, shape: [2]}"),
        ("int32", "clip: {column: n, low: 0, high: 100, into: t}", "float32"),
        # Real numbers are rounded to the type that is written down.
        ("int8", "rename: {columns: {x: t}}", "float32"),
        ("{type: int32, range: [0, 1]}", PAIR, "{type: float32, shape: [2]}"),
        ("int64", "ratio: {left: x, right: x, into: t}", "float32"),
    ],
)
def test_what_is_exact_or_said(inputs: str, steps: str, output: str) -> None:
    assert told(document(inputs, steps, output)) == []


def test_what_steps_cannot_make_is_refused_at_once() -> None:
    text = document("int32", PAIR, "{type: int32, shape: [2]}")
    expected = ["11: stages[0].outputs.t: the steps make it float32, not int32; add a `cast` step"]
    assert complaints(text) == expected


def test_the_command_refuses_and_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(document("int32", CAST, "float32"))
    found = CliRunner().invoke(app, ["pipeline", "check", str(file), "--home", str(tmp_path / "home")])
    assert found.exit_code == 1
    assert f"{file}:10: stages[0].steps[0].cast: 'n' is int32 (-2147483648 to 2147483647)" in found.output
    assert "`lossy: true`" in found.output
    file.write_text(document("int32", CAST.replace("into", "lossy: true, into"), "float32"))
    found = CliRunner().invoke(app, ["pipeline", "check", str(file), "--home", str(tmp_path / "home")])
    assert found.exit_code == 0
