"""`headrace release` on two machines with one Redis; what `headrace up` makes live where nothing was released before."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from headrace.cli.installation import first_releases, layout, preparation
from headrace.cli.main import app
from headrace.cli.supervision import daemon
from headrace.releases import FileReleases
from headrace.releases.place import open_store
from headrace.repository import publish
from tests.agreed import with_yes
from tests.libs.cli.released_home import X, Y, current, made, run, write_document
from tests.libs.releases.small_pipeline import TEXT, changed
from tests.redis_server import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path)
    found.start()
    yield found
    found.kill()


def home(folder: Path, machine: str, store: str) -> Path:
    made = folder / machine
    for model in ("light", "heavy"):
        for version in ("1", "2", "7"):
            publish(made / "models", model, version, b"no model", inputs=[X], outputs=[Y])
    document = made / "pipelines" / "small" / "pipeline.yaml"
    document.parent.mkdir(parents=True)
    document.write_text(TEXT)
    settings = {
        "router": {"pipelines": str(made / "pipelines")},
        "releases": {"store": store, "machine": machine},
    }
    (made / "settings").mkdir()
    for name, values in settings.items():
        (made / "settings" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return made


def said(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(
        app, [*with_yes("release", *arguments), "--home", str(home)], catch_exceptions=False
    )
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_the_history_says_which_machine_made_a_release(tmp_path: Path, server: RedisServer) -> None:
    setting = f"redis://127.0.0.1:{server.port}/0"
    north, south = (home(tmp_path, name, setting) for name in ("north", "south"))
    said(north, "deploy", "small", "--models", "light=1")
    said(south, "deploy", "small", "--models", "light=2")
    store = open_store(setting)
    store.commit(store.current("small")[0].next("mallory", "", 2))
    store.close()
    found = json.loads(
        CliRunner().invoke(app, ["release", "history", "small", "--home", str(north), "--json"]).stdout
    )
    assert [(r["recorded"], (r["recorded_by"] or {}).get("machine")) for r in found["releases"]] == [
        (False, None),
        (True, "south"),
        (True, "north"),
    ]
    assert re.fullmatch(r"headrace:\d+", found["releases"][1]["recorded_by"]["process"])
    assert "not in the audit: 3 (made past it)" in said(north, "history", "small")
    server.command("LPOP", "headrace:{releases}:audit")
    assert "the audit in Redis: it has 1 lines, and 2 were written" in said(south, "history", "small", code=1)


def outcomes(home: Path) -> list[tuple[str, str]]:
    store = FileReleases(home / "releases")
    found = first_releases.make(layout.of(home), store, home / "pipelines")
    return [(outcome.pipeline, outcome.problem) for outcome in found]


def test_each_document_gets_the_versions_that_it_names_or_the_newest(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    assert outcomes(home) == [("small", "")]
    release = current(home)
    assert release is not None
    assert (release.number, release.author, release.reason) == (1, "headrace up", "the first release")
    assert release.live.models == {"light": "10", "heavy": "7"}
    # From then on only releases change what is live.
    write_document(home, changed(("version: 1", "version: 2")))
    assert outcomes(home) == []
    assert current(home) == release


def test_the_version_that_served_before_there_were_releases_goes_on(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    state = layout.of(home).executor_state
    state.mkdir(parents=True)
    (state / "serving.json").write_text(json.dumps({"light": ["1", "2"], "heavy": ["1"]}))
    assert outcomes(home) == [("small", "")]
    release = current(home)
    assert release is not None
    assert release.live.models == {"light": "2", "heavy": "7"}


def test_a_document_whose_model_is_not_there_is_named(tmp_path: Path) -> None:
    home = made(tmp_path / "home")
    write_document(home, changed(("name: light", "name: lihgt")))
    [(pipeline, problem)] = outcomes(home)
    assert pipeline == "small"
    assert "arms.live.models.lihgt: there is no model 'lihgt'" in problem
    assert "headrace models add lihgt FILE" in problem
    assert current(home) is None


def test_up_releases_what_served_and_not_what_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home of a version that had no releases: other code trains other models, which must not go live by a start."""
    home = made(tmp_path / "home")

    def trained(place: layout.Layout, _: object) -> None:
        publish(place.models, "light", "11", b"trained by other code", inputs=[X], outputs=[Y])

    def not_started(*_: object, **__: object) -> None:
        raise daemon.StartError("no further")

    monkeypatch.setattr(preparation, "prepare", trained)
    monkeypatch.setattr(daemon, "start_supervisor", not_started)
    assert "no further" in run(home, "up").output
    release = current(home)
    assert release is not None
    assert release.live.models == {"light": "10", "heavy": "7"}
