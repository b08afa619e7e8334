"""Every command that changes what serves or is kept asks, or needs `--yes`; and changes nothing until then. What `headrace up`
makes live where nothing was released before."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from headrace.catalog.access import Position
from headrace.cli.consent import ASKS_ITSELF, UNASKED
from headrace.cli.installation import control_place, first_releases, layout
from headrace.cli.main import app
from tests.libs.cli.released_home import ROLLOUT, current, ok, write_document
from tests.libs.releases.small_pipeline import changed
from tests.live_access import home_control

EXEMPT = [command for commands in UNASKED.values() for command in commands]
EXPERIMENT = "experiment start small e --weight live=0.5 --weight b=0.5 --outcome late --by name"
ARM_B = "release deploy small --arm b --models light=10"
# Command → what is typed before, and what is typed behind it. Light 1 was live, and light 2 is.
SCENES: dict[str, tuple[tuple[str, ...], str]] = {
    "release deploy": ((), "small --models light=10"),
    "release apply": ((), "-f {home}/release.json"),
    "release rollback": ((), "small"),
    "release label": ((), "small champion light:2"),
    "release freeze": ((), ""),
    "release remove": ((), "small"),
    "rollout start": ((), "small --models light=1"),
    "rollout pause": ((" ".join(ROLLOUT[:-3]) + " light=10",), "small"),
    "rollout resume": ((" ".join(ROLLOUT[:-3]) + " light=10", "rollout pause small"), "small"),
    "rollout promote": ((" ".join(ROLLOUT[:-3]) + " light=10",), "small"),
    "rollout abort": ((" ".join(ROLLOUT[:-3]) + " light=10",), "small"),
    "experiment start": ((ARM_B,), EXPERIMENT.removeprefix("experiment start ")),
    "experiment stop": ((ARM_B, EXPERIMENT), "small"),
    "shadow start": ((), "small --models light=10"),
    "shadow stop": (("shadow start small --models light=10",), "small"),
    "tenants remove": (("tenants add acme",), "acme"),
    "events erase": ((), "acme --all"),
}


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each command, as a person types it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name in command.commands:
        yield from leaves(command.commands[name], f"{path} {name}".strip())


COMMANDS = dict(leaves(get_command(app)))
ASKED_FIRST = sorted(COMMANDS.keys() - {*EXEMPT} - ASKS_ITSELF)


@pytest.fixture
def live_home(home: Path) -> Iterator[Path]:
    for version in (1, 2):
        ok(home, "release", "deploy", "small", "--models", f"light={version}")
    arm = {"document": "pipelines/small/pipeline.yaml", "models": {"light": "1", "heavy": "10"}}
    (home / "release.json").write_text(json.dumps({"pipeline": "small", "arms": {"live": arm}}))
    with home_control(layout.of(home)):
        yield home


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = type("Terminal", (), {"isatty": lambda _: True})()
    monkeypatch.setattr("headrace.cli.consent.sys", type("Sys", (), {"stdin": stdin}))


def typed(home: Path, *words: str, said: str = "") -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)], input=said)


def content(home: Path) -> dict[str, str]:
    """The hash of each file; of control itself its position says more."""
    files = (p for p in home.rglob("*") if p.is_file() and not p.name.startswith((".", "control.sqlite")))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def state(home: Path) -> tuple[dict[str, str], Position]:
    """Of its files and its control."""
    with closing(control_place.releases(layout.of(home))) as store:
        return content(home), store.records.position()


def test_every_command_asks_unless_there_is_a_reason_not_to() -> None:
    asking = {path for path, command in COMMANDS.items() if "--yes" in options(command)}
    assert asking == {path for path, command in COMMANDS.items() if "--dry-run" in options(command)}
    assert sorted(asking) == sorted(COMMANDS.keys() - {*EXEMPT})
    assert len(EXEMPT) == len({*EXEMPT})
    assert asking >= ASKS_ITSELF
    # `recover` needs two controls: tests/faults/test_lost_control.py.
    assert SCENES.keys() == ASKS_ITSELF - {"recover"}


def options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("path", ASKED_FIRST)
def test_it_does_not_begin_unasked(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    required = [p for p in COMMANDS[path].params if p.required]
    words = [word for p in required for word in ([*p.opts[:1]] if p.opts[0].startswith("-") else []) + ["7"]]
    before = content(tmp_path)
    refused = CliRunner().invoke(app, [*path.split(), *words])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"if {path} shall be done: add --yes" in " ".join(refused.stderr.split())
    shown = CliRunner().invoke(app, [*path.split(), *words, "--dry-run", "--yes"])
    assert (shown.exit_code, f"{path}: " in shown.stderr) == (0, True)
    assert "nothing was changed" in shown.stderr
    assert content(tmp_path) == before


@pytest.mark.parametrize("path", sorted(SCENES))
def test_nothing_is_changed_before_somebody_agrees(
    live_home: Path, path: str, request: pytest.FixtureRequest
) -> None:
    home = live_home
    before, behind = SCENES[path]
    for command in before:
        ok(home, *command.split())
    words, known = [*path.split(), *behind.format(home=home).split()], state(home)
    refused = typed(home, *words)
    assert refused.exit_code == 2, refused.output
    assert f"if {path} shall be done: add --yes" in refused.stderr
    shown = typed(home, *words, "--dry-run")
    assert (shown.exit_code, "nothing was changed (--dry-run)" in shown.stderr) == (0, True), shown.output
    request.getfixturevalue("terminal")
    no = typed(home, *words, said="n\n")
    assert (no.exit_code, "nothing was changed" in no.stderr) == (1, True), no.output
    assert state(home) == known
    if path != "events erase":  # asks a service, which does not run
        yes = typed(home, *words, said="y\n")
        assert yes.exit_code == 0, yes.output
        assert state(home) != known


def outcomes(home: Path) -> list[tuple[str, str]]:
    with closing(control_place.releases(layout.of(home))) as store:
        found = first_releases.make(layout.of(home), store, home / "pipelines")
        return [(outcome.pipeline, outcome.problem) for outcome in found]


def test_each_document_gets_the_versions_that_it_names_or_the_newest(home: Path) -> None:
    assert outcomes(home) == [("small", "")]
    release = current(home)
    assert release is not None
    assert (release.number, release.author, release.reason) == (1, "headrace up", "the first release")
    assert release.live.models == {"light": "10", "heavy": "7"}
    # From then on only releases change what is live.
    write_document(home, changed(("version: 1", "version: 2")))
    assert outcomes(home) == []
    assert current(home) == release


def test_a_document_whose_model_is_not_there_is_named(home: Path) -> None:
    write_document(home, changed(("name: light", "name: lihgt")))
    [(pipeline, problem)] = outcomes(home)
    assert pipeline == "small"
    assert "arms.live.models.lihgt: there is no model 'lihgt'" in problem
    assert "headrace models add lihgt FILE" in problem
    assert current(home) is None
