"""`headrace cascade tune`, as a person types it, over real ONNX files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from typer.testing import Result

from tests.control_service import control_here
from tests.libs.cli.released_home import write_settings
from tests.libs.cli.replay_home import typed
from tests.services.executor.executor_models import onnx_bytes

DOCUMENT = """\
pipeline: demo
version: 1
deadline_ms: 1000
inputs:
  x: {type: float32, range: [0, 1]}
  amount: {type: int64, default: 0}
stages:
  - features: store
    feature_service: f
    entities: [amount]
    views: {v: {features: {noise: float64}}}
  - preprocessing: prepare
    steps:
      - impute: {columns: {noise: 0.0}}
      - assemble: {columns: [x, noise], into: input}
    outputs: {input: {type: float32, shape: [2]}}
  - cascade: score
    light: {name: small, inputs: {input: input}, outputs: {p: {column: p, type: float32}}}
    heavy: {name: large, version: "1", inputs: {input: input}, outputs: {p: {column: p, type: float32}}}
    score: p
    decision: 0.5
    threshold: 0.1
    valuable: {amount: 1000}
  - {model: after, name: nowhere, inputs: {input: input}, outputs: {p: {column: q, type: float32}}}
outputs: [p, q]
"""


def model(weights: tuple[float, float]) -> bytes:
    """p = input · weights."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["p"])],
        "dot",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2], weights)],
    )
    return onnx_bytes(graph)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a light model that sees x with noise, and a heavy one that takes the noise off."""
    folder = tmp_path_factory.mktemp("cascade")
    with control_here(folder / "control") as control:
        assert typed("models", "keys", "--home", folder).exit_code == 0
        write_settings(folder, store=f"control:{control.target}")
        for name, weights in (("small", (1.0, 1.0)), ("large", (1.0, 0.0))):
            (folder / f"{name}.onnx").write_bytes(model(weights))
            added = typed("models", "add", name, folder / f"{name}.onnx", "--home", folder)
            assert added.exit_code == 0, added.output
        yield folder


def rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    x, noise = rng.uniform(0, 1, count), rng.normal(0, 0.1, count)
    return [
        {"x": float(a), "noise": float(b), "late": bool(a >= 0.5), "amount": 1000 if i % 100 == 0 else 1}
        for i, (a, b) in enumerate(zip(x, noise, strict=True))
    ]


def written(path: Path, content: str | list[Any]) -> Path:
    path.write_text(content if isinstance(content, str) else "\n".join(map(json.dumps, content)))
    return path


def tune(home: Path, data: Path, *arguments: str, text: str = DOCUMENT) -> Result:
    document = written(data.with_name("demo.yaml"), text)
    return typed("cascade", "tune", document, "--data", data, "--label", "late", "--home", home, *arguments)


def refused(result: Result) -> str:
    assert result.exit_code == 1, result.output
    return " ".join((result.stdout + result.stderr).split())


def test_a_threshold_is_chosen_and_the_command_that_sets_it_is_printed(home: Path, tmp_path: Path) -> None:
    # The last ones, more than are sent at once, fail before the stage, and are left out.
    wrong = [{"x": 7, "noise": 0.0, "late": True}] * 1100
    good = rows(4000)
    good[1]["noise"] = None  # a feature that had no value
    data = written(tmp_path / "rows.jsonl", [*good, *wrong])
    result = tune(home, data, "--loss-budget", "0.01")
    assert result.exit_code == 0, result.output
    assert "chosen" in result.stdout
    assert "too much" in result.stdout
    assert "headrace release deploy demo --set score.threshold=0." in result.stdout
    plain = json.loads(tune(home, data, "--loss-budget", "0.01", "--json").stdout)
    best = plain["chosen"]
    assert best["lost_bound"] <= 0.01
    # The noise has a deviation of 0.1, so beyond that from 0.5 the light model is nearly always right.
    assert 0.02 < best["threshold"] < 0.25
    assert plain["rows"] == 4000
    assert plain["heavy_loss"] == 0
    assert plain["gap"] == pytest.approx(plain["light_loss"])
    assert plain["curve"][0]["heavy_share"] == pytest.approx(0.01)
    assert plain["curve"][-1]["lost"] == 0
    light, heavy = plain["cpu_us"]["light"], plain["cpu_us"]["heavy"]
    assert light > 0
    saved = 1 - plain["curve"][-1]["heavy_share"] - light / heavy
    assert plain["curve"][-1]["cpu_saved"] == pytest.approx(saved)
    part = json.loads(tune(home, data, "--loss-budget", "20%", "--json").stdout)
    assert part["budget"] == pytest.approx(0.2 * part["gap"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (rows(50), "no threshold is proven to lose at most 0.00100; it needs at least "),
        (["nothing"], "rows.jsonl: line 1 is no JSON"),
        (
            [{"x": 0.5, "noise": 0.0}],
            "rows.jsonl: line 1: the label 'late' should be true, false or a class number, is None",
        ),
        ([{"x": 0.5, "noise": 0.0, "late": "yes"}], "should be true, false or a class number, is 'yes'"),
        ([{"x": 0.5, "late": True}], "the rows do not have the feature 'noise'"),
        ([{"x": 5, "noise": 0.0, "late": True}], "every row fails before the stage; the first: "),
        ([], "no rows"),
    ],
)
def test_rows_that_can_not_be_used_are_named(
    home: Path, tmp_path: Path, lines: list[Any], message: str
) -> None:
    data = written(tmp_path / "rows.jsonl", lines)
    assert message in refused(tune(home, data, "--loss-budget", "0.001"))


def test_what_is_not_there_is_named(home: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "rows.jsonl", rows(10))
    for budget in ("0", "1.5", "x", "200%", "-1"):
        assert "--loss-budget: " in refused(tune(home, data, f"--loss-budget={budget}"))
    assert "has no cascade 'scoer'; it has: score" in refused(
        tune(home, data, "--loss-budget", "0.1", "--stage", "scoer")
    )
    for old, new in (("large", "larger"), ("cascade", "cascde")):
        text = DOCUMENT.replace(old, new)
        assert new in refused(tune(home, data, "--loss-budget", "0.1", text=text))
    result = typed("cascade", "tune", "nobody", "--data", data, "--loss-budget", "0.1", "--home", home)
    assert "there is no pipeline 'nobody'" in refused(result)
