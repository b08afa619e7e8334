"""A home on which stored events are run again."""

from contextlib import closing
from pathlib import Path

from typer.testing import CliRunner, Result

from headrace.cli.installation import control_place, layout
from headrace.cli.main import app
from headrace.pipeline import parse
from headrace.releases import LIVE, Arm, Release, ReleaseStore
from tests.agreed import with_yes
from tests.libs.cli.released_home import write_settings
from tests.libs.cli.test_cli_models import model

DOCUMENT = """\
pipeline: scored
version: 3
deadline_ms: 1000
inputs:
  key: {type: string, pii: true}
  x: float32
stages:
  - features: store
    feature_service: users
    entities: [key]
    views: {user: {features: {score: float64}, on_missing: RULE}}
  - preprocessing: prepare
    steps:
      - impute: {columns: {score: -1.0}}
      - assemble: {columns: [x, score], into: input}
    outputs: {input: {type: float32, shape: [2]}}
  - model: sum
    name: times
    inputs: {x: input}
    outputs: {y: {column: y, type: float32, shape: [2]}}
outputs: [y]
"""


def typed(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, with_yes(*arguments))


def made(folder: Path, control: str) -> Path:
    """A home in `folder` with two versions of the model `times`, and a release for each at the control with this target; the
    newer one refuses rows without values."""
    home = folder / "home"
    assert typed("models", "keys", "--home", home).exit_code == 0
    write_settings(home, store=f"control:{control}")
    with closing(control_place.releases(layout.of(home))) as store:
        _release(folder, home, store)
    return home


def _release(folder: Path, home: Path, store: ReleaseStore) -> None:
    for number, factor in (1, 2.0), (2, 3.0):
        file = model(folder / f"{number}.onnx", width=2, factor=factor)
        added = typed("models", "add", "times", file, "--home", home)
        assert added.exit_code == 0, added.output
        text = DOCUMENT.replace("RULE", "default" if number == 1 else "refuse")
        document = parse(text, "scored.yaml")
        arm = Arm(version=3, revision=document.revision, models={"times": str(number)})
        release = Release(
            pipeline="scored", number=number, parent=number - 1, author="test", arms={LIVE: arm}
        )
        store.commit(release, {document.revision: text})
