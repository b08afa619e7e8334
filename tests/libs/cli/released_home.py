"""A home whose releases are at a control, for `headrace release`, `rollout` and `experiment` as they are typed."""

from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from headrace.cli.installation import control_place, layout
from headrace.cli.main import app
from headrace.columns import DType
from headrace.releases import Release
from headrace.repository import TensorSpec, changes, publish
from tests.agreed import with_yes
from tests.libs.releases.small_pipeline import TEXT

X, Y = TensorSpec("x", DType.FLOAT32, ()), TensorSpec("y", DType.FLOAT32, ())
ROLLOUT = ("rollout", "start", "small", "--models", "light=2", "--by", "name")


def made(home: Path, control: str) -> Path:
    """The home, with models in two versions each and a document; nothing is live yet. `control`: target."""
    write_settings(home, store=f"control:{control}")
    for model in ("light", "heavy"):
        for version in ("1", "7", "10") if model == "heavy" else ("1", "2", "10"):
            add_model(home, model, version)
    ok(home, "models", "label", "light:1", "old")
    write_document(home, TEXT)
    return home


def add_model(home: Path, model: str, version: str) -> None:
    """As `headrace models add`, which would refuse a file like this one."""
    with control_place.records(layout.of(home)) as records:
        about = publish(home / "models", model, version, b"no model", inputs=[X], outputs=[Y])
        changes.add(records, about, "tests")


def write_settings(home: Path, **settings: Any) -> None:
    """Of `releases.yaml`: these, and those that are there."""
    path = home / "settings" / "releases.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    before = yaml.safe_load(path.read_text()) if path.exists() else {}
    path.write_text(yaml.safe_dump({**before, **settings}))


def write_document(home: Path, text: str) -> None:
    path = home / "pipelines" / "small" / "pipeline.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(home: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*with_yes(*arguments), "--home", str(home)], catch_exceptions=False)


def ok(home: Path, *arguments: object) -> str:
    result = run(home, *arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def refused(home: Path, *arguments: object, code: int = 1) -> str:
    """What is said; nothing has changed."""
    before = current(home)
    result = run(home, *arguments)
    assert result.exit_code == code, result.output
    assert current(home) == before
    return " ".join(result.output.split())


def current(home: Path) -> Release | None:
    with closing(control_place.releases(layout.of(home))) as store:
        return store.current("small")[0]
