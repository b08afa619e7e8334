"""`headrace models`, as a person types it, over real ONNX files. What preparations publish while nothing runs is listed by the
next `up`, once, and only what the home's key signed."""

import getpass
import importlib.util
import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from typer.testing import Result

from headrace.catalog.records import CatalogRecords
from headrace.catalog.remote import RemoteRecords
from headrace.cli.commands.models import prepared_models
from headrace.cli.installation import layout
from headrace.drift import baseline_of_version
from headrace.repository import Repository, RepositoryError, Trust, changes
from headrace.repository.model_index import all_indexes
from headrace.state.json_lines import entries
from tests.control_service import Here
from tests.libs.cli import released_home
from tests.libs.cli.released_home import write_settings
from tests.libs.repository.signed_models import signed
from tests.services.executor.executor_models import doubling, endless, expanding, onnx_bytes


def run(*arguments: str | Path, home: Path) -> Result:
    return released_home.run(home, "models", *arguments)


def model(path: Path, *, width: int | str = 3, rows: int | str = "rows", factor: float = 2.0) -> Path:
    """y = x × factor."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [rows, width]) for n in "xy")
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph([node], "times", [x], [y], [constant])
    path.write_bytes(onnx_bytes(graph))
    return path


@pytest.fixture
def home(tmp_path: Path, control: Here) -> Path:
    """A home with keys and a control."""
    assert run("keys", home=tmp_path / "home").exit_code == 0
    write_settings(tmp_path / "home", store=f"control:{control.target}")
    return tmp_path / "home"


def ok(*arguments: str | Path, home: Path) -> str:
    result = run(*arguments, home=home)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str | Path, home: Path) -> str:
    result = run(*arguments, home=home)
    assert result.exit_code == 1, result.output
    return " ".join((result.stdout + result.stderr).split())


def test_a_model_is_added_in_one_line_and_lives_its_life(home: Path, tmp_path: Path, control: Here) -> None:
    (tmp_path / "m.json").write_text('{"auc": 0.9}')
    values = np.arange(30.0).reshape(10, 3)
    np.savetxt(tmp_path / "b.csv", values, delimiter=",", header="x[0],x[1],x[2]", comments="")
    file = model(tmp_path / "m.onnx")

    said = ok("add", "mine", file, home=home)
    assert "added mine version 1, signed" in said
    assert "inputs: x: float32[3]" in said
    more = ("--metrics", tmp_path / "m.json", "--baseline", tmp_path / "b.csv", "--parent", "mine:1")
    ok("add", "mine", file, *more, "--trained-on", "data of May", "--file", tmp_path / "m.json", home=home)
    ok("label", "mine:1", "champion", home=home)
    assert ok("verify", home=home).count("ok mine version") == 2

    shown = json.loads(ok("show", "mine", home=home))
    assert (shown["version"], shown["metrics"]) == ("2", {"auc": 0.9})
    assert shown["baseline"] == {"file": "baseline.json", "rows": 10, "columns": 3}
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
    assert [e["event"] for e in entries(place.model_log)] == ["loaded", "loaded"]
    with closing(RemoteRecords(control.target)) as records:
        lines = [json.loads(line.line) for line in records.lines()]
    assert [f"{line['action']} {line['subject']}" for line in lines[1:]] == [
        *("model.add mine", "model.add mine", "model.label mine", "model.unlabel mine", "model.remove mine")
    ]
    assert {line["actor"] for line in lines[1:]} == {getpass.getuser()}


def test_without_control_nothing_is_added_and_what_is_there_is_shown(
    home: Path, tmp_path: Path, control: Here
) -> None:
    file = model(tmp_path / "m.onnx")
    ok("add", "mine", file, home=home)
    ok("label", "mine", "champion", home=home)
    shutil.move(home / "models" / "mine" / "1", tmp_path / "away")
    assert "can't read metadata.json" in ok("list", home=home)
    write_settings(home, store="")
    ok("add", "mine", file, "--version", "1", "--trained-on", "else", "--root", home / "models", home=home)
    for words in (("add", "mine", file), ("label", "mine", "best"), ("remove", "mine", "1")):
        assert "headrace does not run in" in refused(*words, home=home)
    listed = ok("list", home=home).splitlines()[1]
    assert listed.split()[:3] == ["mine", "1", "onnxruntime"]
    assert "ok mine version 1, signed" in ok("verify", home=home)
    # Signed files, but not those that are listed.
    write_settings(home, store=f"control:{control.target}")
    assert "not the one that the index lists" in refused("verify", home=home)


def test_a_baseline_is_made_checked_and_kept_with_its_version(home: Path, tmp_path: Path) -> None:
    data, document = tmp_path / "d.csv", tmp_path / "b.json"
    data.write_text("a,b,c,hour\n" + "".join(f"{i},{i % 3},{i / 7},{i % 24}\n" for i in range(50)))
    file, columns = model(tmp_path / "m.onnx"), ("--tensor", "x=a,b,c", "--pipeline", "hour")
    ok("add", "mine", file, "--unchecked", home=home)

    assert "4 columns of 50 rows" in ok(
        *("baseline", data, "--out", document, *columns, "--unwatched", "hour", "--for", "mine"), home=home
    )
    ok("add", "mine", file, "--baseline", document, "--unchecked", home=home)
    place = layout.of(home)
    found = baseline_of_version(Repository(place.models, trust=Trust((place.model_public_key,))), "mine", "2")
    assert (set(found.columns), found.columns["hour"].watched) == ({"a", "b", "c", "hour"}, False)

    assert "column 'hour': the model has no such input" in refused(
        *("baseline", data, "--out", document, "--tensor", "x=a,b,c", "--for", "mine"), home=home
    )
    said = refused("add", "mine", file, "--baseline", data, "--unchecked", home=home)
    assert "model 'mine': baseline, column 'a': the model has no such input (it has: x: float32[3])" in said
    assert "no such column" in refused("baseline", data, "--out", document, "--output", "z", home=home)
    assert ok("list", home=home).count("mine") == 2, "nothing was added"


def test_signing_is_the_rule(tmp_path: Path, control: Here) -> None:
    home, file = tmp_path / "home", model(tmp_path / "m.onnx")
    write_settings(home, store=f"control:{control.target}")
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


def test_another_repository_is_named_by_root(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_settings(home, store="")
    ok("add", "mine", model(tmp_path / "m.onnx"), "--root", other, home=home)
    assert "ok mine version 1" in ok("verify", "--root", other, home=home)
    assert "name it in the settings" in refused("label", "mine", "best", "--root", other, home=home)
    ok("remove", "mine", "1", "--root", other, home=home)
    assert "there is no such model" in refused("show", "mine", "--root", other, home=home)
    assert not (home / "models").exists()


def test_only_a_plain_file_up_to_a_limit_is_read(home: Path, tmp_path: Path) -> None:
    file = model(tmp_path / "m.onnx")
    (tmp_path / "link.onnx").symlink_to(file)
    os.mkfifo(tmp_path / "pipe.onnx")
    for odd, what in (
        ("/dev/zero", "it is no plain file"),
        (tmp_path, "it is no plain file"),
        (tmp_path / "pipe.onnx", "it is no plain file"),
        (tmp_path / "link.onnx", f"is a symbolic link; name the file itself: {file}"),
        (tmp_path / "none.onnx", "can't be read (No such file or directory)"),
    ):
        assert what in refused("add", "mine", odd, home=home)
        assert what in refused("add", "mine", file, "--file", odd, home=home)
        assert what in refused("add", "mine", file, "--metrics", odd, home=home)
    with (tmp_path / "large.onnx").open("wb") as large:
        large.truncate(3 << 30)
    assert "has more than 2048 MiB; if that is meant: --max-mib" in refused(
        "add", "mine", tmp_path / "large.onnx", home=home
    )
    assert not (home / "models").exists()


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (endless(), ("--seconds", "2"), "the executor can't use it: loading it took longer than 2 s"),
        (expanding(), ("--memory-mib", "1024"), "needs more than 1024 MiB of memory; correct the model"),
        (
            doubling(rows=2),
            ("--input", "x:float32:5"),
            "x: float32[5] is declared, the artifact has x: float32[3]",
        ),
        (doubling(), ("--backend", "abacus"), "backend 'abacus' is not built in"),
    ],
    ids=["endless", "expanding", "contradicting", "unknown backend"],
)
def test_what_the_executor_cannot_use_is_not_signed(
    home: Path, tmp_path: Path, content: bytes, options: tuple[str, ...], says: str
) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(content)
    assert says in refused("add", "bad", file, *options, home=home)
    assert not (home / "models").exists()
    assert "not checked (--unchecked)" in ok("add", "bad", file, *options, "--unchecked", home=home)


def test_a_model_is_checked_with_the_settings_of_the_home(home: Path, tmp_path: Path) -> None:
    own = layout.of(home).override("executor")
    own.write_text("check: {seconds: 2}\ndefaults: {backends: [onnxruntime]}\n")
    file = tmp_path / "m.onnx"
    file.write_bytes(endless())
    assert "took longer than 2 s" in refused("add", "endless", file, home=home)
    own.write_text("defaults: {backends: ['remote:edge']}\n")
    said = ok("add", "far", model(file), home=home)
    assert "not checked (what runs it can't be tried from here)" in said
    own.write_text("defaults: {backends: [")
    assert f"{own} can't be read" in refused("add", "mine", file, home=home)


def test_without_the_executor_it_says_that_it_did_not_check(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "services.executor" else there(name)
    )
    assert "not checked (the executor is not installed here)" in ok(
        "add", "mine", model(tmp_path / "m.onnx"), home=home
    )


def test_loading_needs_a_running_system_and_a_name(home: Path) -> None:
    for action in ("load", "unload"):
        said = " ".join(refused(action, "mine:2", home=home).split())
        assert f"start it: headrace up --home {home}" in said
        for text in ("../mine", "mine:", "mine:../2", "a b"):
            assert "names no model" in refused(action, text, home=home)


def test_it_is_listed_once_and_what_is_not_signed_is_left(tmp_path: Path) -> None:
    models, place = signed(tmp_path), layout.of(tmp_path)
    for about in (models.put(key=None), models.put(name="heavy")):
        prepared_models.note(place, about.name, about.version)
    with closing(CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)) as records:
        with pytest.raises(RepositoryError, match="it is not signed"):
            prepared_models.add(place, records)
        assert all_indexes(records).keys() == {"heavy"}
        changes.remove(records, models.root, "heavy", "1", "ann")
        prepared_models.note(place, "light", models.put("2").version)
        assert prepared_models.add(place, records) == ["light version 2"]
        assert prepared_models.add(place, records) == []
        found = {name: [*index.versions] for name, index in all_indexes(records).items()}
    assert found == {"heavy": [], "light": ["2"]}
