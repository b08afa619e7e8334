"""What `headrace up` makes live in a home whose documents were never released."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.cli.installation import first_releases, layout, preparation
from headrace.cli.supervision import daemon
from headrace.releases import FileReleases
from headrace.repository import publish
from tests.libs.cli.released_home import X, Y, current, made, run, write_document
from tests.libs.releases.small_pipeline import changed


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
