"""`headrace models`, as a person types it, over real ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from headrace.cli import layout
from headrace.cli.main import app
from headrace.repository import Repository, Trust
from headrace.repository.access import entries


def run(*arguments: str | Path, home: Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments), "--home", str(home)])


def model(path: Path, *, width: int | str = 3, rows: int | str = "rows", factor: float = 2.0) -> Path:
    """y = x × factor."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [rows, width]) for n in "xy")
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([node], "times", [x], [y], [constant])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(path))
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with keys."""
    assert run("keys", home=tmp_path / "home").exit_code == 0
    return tmp_path / "home"


def ok(*arguments: str | Path, home: Path) -> str:
    result = run(*arguments, home=home)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str | Path, home: Path) -> str:
    result = run(*arguments, home=home)
    assert result.exit_code == 1, result.output
    return " ".join((result.stdout + result.stderr).split())


def test_a_model_is_added_in_one_line_and_lives_its_life(home: Path, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"auc": 0.9}')
    (tmp_path / "b.json").write_text('{"x": [1, 2, 3]}')
    file = model(tmp_path / "m.onnx")

    said = ok("add", "mine", file, home=home)
    assert "added mine version 1, signed" in said
    assert "inputs: x: float32[3]" in said
    more = ("--metrics", tmp_path / "m.json", "--baseline", tmp_path / "b.json", "--parent", "mine:1")
    ok("add", "mine", file, *more, "--trained-on", "data of May", "--file", tmp_path / "m.json", home=home)
    ok("label", "mine:1", "champion", home=home)
    assert ok("verify", home=home).count("ok mine version") == 2

    shown = json.loads(ok("show", "mine", home=home))
    assert (shown["version"], shown["metrics"], shown["baseline"]) == ("2", {"auc": 0.9}, {"x": [1, 2, 3]})
    assert (shown["lineage"], shown["trained_on"]) == ({"parents": ["mine:1"]}, "data of May")
    assert json.loads(ok("show", "mine:champion", home=home))["labels"] == ["champion"]
    assert [line.split()[:3] for line in ok("list", home=home).splitlines()[1:]] == [
        ["mine", "1", "champion"],
        ["mine", "2", "onnxruntime"],
    ]
    assert "the label 'champion' points at it" in refused("remove", "mine", "1", home=home)
    ok("label", "mine", "champion", "--delete", home=home)
    ok("remove", "mine", "1", home=home)
    assert "there are: 2" in refused("show", "mine:1", home=home)
    place = layout.of(home)
    assert Repository(place.models, trust=Trust((place.model_public_key,))).versions("mine") == ["2"]
    assert [e["event"] for e in entries(place.model_log)] == [
        *("added", "added", "labelled", "loaded", "loaded", "unlabelled", "removed")
    ]


def test_a_tampered_model_is_refused(home: Path, tmp_path: Path) -> None:
    ok("add", "mine", model(tmp_path / "m.onnx"), home=home)
    evil = model(tmp_path / "evil.onnx", factor=-1.0)
    (home / "models" / "mine" / "1" / "model.onnx").write_bytes(evil.read_bytes())

    assert "refused model 'mine' version '1': the signature of it does not hold" in refused(
        "verify", home=home
    )
    [entry] = [e for e in entries(layout.of(home).model_log) if e["event"] == "refused"]
    assert "model.onnx" in entry["reason"]


def test_an_altered_log_is_reported(home: Path, tmp_path: Path) -> None:
    ok("add", "mine", model(tmp_path / "m.onnx"), home=home)
    ok("add", "mine", model(tmp_path / "m.onnx"), home=home)
    log = layout.of(home).model_log
    log.write_text(log.read_text().replace('"version": "1"', '"version": "7"'))
    assert "line 2: the chain is broken" in refused("verify", home=home)


def test_signing_is_the_rule(tmp_path: Path) -> None:
    home, file = tmp_path / "home", model(tmp_path / "m.onnx")
    assert "make one: headrace models keys" in refused("add", "mine", file, home=home)
    assert "not signed" in ok("add", "mine", file, "--unsigned", home=home)
    assert "is not signed" in refused("verify", home=home)
    assert "ok mine version 1, not signed" in ok("verify", "--unsigned", home=home)
    ok("keys", home=home)
    assert "there already" in ok("keys", home=home)
    key = layout.of(home).model_key
    assert key.stat().st_mode & 0o777 == 0o600
    assert "exclude each other" in refused("add", "mine", file, "--unsigned", "--key", key, home=home)


def test_what_the_file_leaves_open_must_be_stated(home: Path, tmp_path: Path) -> None:
    file = model(tmp_path / "m.onnx", width="wide")
    assert "x leaves its row shape open (wide); state it" in refused("add", "mine", file, home=home)
    tensors = ("--input", "x:float32:5", "--output", "y:float32:5")
    assert "outputs: y: float32[5]" in ok("add", "mine", file, *tensors, home=home)
    for text in ("x", "x:float33", ":float32", "x:float32:0", "x:float32:a"):
        assert "is no tensor" in refused("add", "mine", file, "--input", text, home=home)


def test_mistakes_are_named(home: Path, tmp_path: Path) -> None:
    text = tmp_path / "m.txt"
    text.write_text("no model")
    assert "ONNX Runtime can't load it" in refused("add", "mine", text, home=home)
    file = model(tmp_path / "m.onnx")
    assert "holds no JSON" in refused("add", "mine", file, "--metrics", text, home=home)
    assert "is no model name" in refused("add", "../mine", file, home=home)
    assert "can't list the folder" in refused("list", home=home)
    ok("add", "mine", file, home=home)
    assert "there is no such model (there are: mine)" in refused("show", "yours", home=home)
    assert "there is no such model" in refused("verify", "yours", home=home)
    assert "is published already" in refused("add", "mine", file, "--version", "1", home=home)
    assert "is no address of an MLflow server" in refused("import", "models:/m/1", "--from", "x", home=home)
    assert "can't be reached" in refused("import", "models:/m/1", "--from", "http://127.0.0.1:1", home=home)
    assert "names no registered model" in refused("import", "m", "--from", "http://127.0.0.1:1", home=home)


def test_a_list_is_signed_with_another_key(home: Path, tmp_path: Path) -> None:
    ok("add", "mine", model(tmp_path / "m.onnx"), home=home)
    place = layout.of(home)
    place.model_key.rename(tmp_path / "old.key")
    place.model_public_key.rename(tmp_path / "old.pub")
    ok("keys", home=home)
    assert "which is not trusted here" in refused("add", "mine", model(tmp_path / "m.onnx"), home=home)
    ok("resign", "mine", "--trusted", tmp_path / "old.pub", home=home)
    ok("add", "mine", model(tmp_path / "m.onnx"), home=home)
    trusted = ("--trusted", tmp_path / "old.pub", "--trusted", place.model_public_key)
    assert ok("verify", *trusted, home=home).count("ok mine version") == 2


def test_another_repository_is_named_by_root(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    ok("add", "mine", model(tmp_path / "m.onnx"), "--root", other, home=home)
    assert "ok mine version 1" in ok("verify", "--root", other, home=home)
    assert not (home / "models").exists()


def test_a_version_that_a_pipeline_names_stays(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pipelines" / "p"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(
        "pipeline: p\nversion: 1\ndeadline_ms: 100\ninputs: {x: {type: float32, shape: [3]}}\nstages:\n"
        '- {model: m, name: mine, version: "1", inputs: {x: x}, '
        "outputs: {y: {column: y, type: float32, shape: [3]}}}\noutputs: [y]\n"
    )
    ok("add", "mine", model(tmp_path / "m.onnx"), home=home)
    monkeypatch.setattr(layout.Layout, "pipelines", tmp_path / "pipelines")
    assert "pipeline p names mine version 1; change it first" in refused("remove", "mine", "1", home=home)
