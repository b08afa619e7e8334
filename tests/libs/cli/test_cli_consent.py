"""Every command that changes what serves or is kept asks, or needs `--yes`; and changes nothing until then."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from headrace.cli.consent import ASKS_ITSELF, UNASKED
from headrace.cli.installation import layout, secrets
from headrace.cli.main import app
from tests.libs.cli.released_home import ROLLOUT, made, ok

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
def home(tmp_path: Path) -> Path:
    found = made(tmp_path / "home")
    secrets.ensure(layout.of(found), datetime.now(UTC))
    for version in (1, 2):
        ok(found, "release", "deploy", "small", "--models", f"light={version}")
    arm = {"document": "pipelines/small/pipeline.yaml", "models": {"light": "1", "heavy": "10"}}
    (found / "release.json").write_text(json.dumps({"pipeline": "small", "arms": {"live": arm}}))
    return found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = type("Terminal", (), {"isatty": lambda _: True})()
    monkeypatch.setattr("headrace.cli.consent.sys", type("Sys", (), {"stdin": stdin}))


def typed(home: Path, *words: str, said: str = "") -> Result:
    return CliRunner().invoke(app, [*words, "--home", str(home)], input=said)


def content(home: Path) -> dict[str, str]:
    """The hash of each file."""
    files = (path for path in home.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_command_asks_unless_there_is_a_reason_not_to() -> None:
    asking = {path for path, command in COMMANDS.items() if "--yes" in options(command)}
    assert asking == {path for path, command in COMMANDS.items() if "--dry-run" in options(command)}
    assert sorted(asking) == sorted(COMMANDS.keys() - {*EXEMPT})
    assert len(EXEMPT) == len({*EXEMPT})
    assert asking >= ASKS_ITSELF
    # Each of the others stands here, or where its faults and keys are (test_gameday_command.py, test_cli_encryption.py).
    assert SCENES.keys() == ASKS_ITSELF - {"gameday", "encryption retire"}


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
    home: Path, path: str, request: pytest.FixtureRequest
) -> None:
    before, behind = SCENES[path]
    for command in before:
        ok(home, *command.split())
    words, known = [*path.split(), *behind.format(home=home).split()], content(home)
    refused = typed(home, *words)
    assert (refused.exit_code, f"if {path} shall be done: add --yes" in refused.stderr) == (2, True), (
        refused.output
    )
    shown = typed(home, *words, "--dry-run")
    assert (shown.exit_code, "nothing was changed (--dry-run)" in shown.stderr) == (0, True), shown.output
    request.getfixturevalue("terminal")
    no = typed(home, *words, said="n\n")
    assert (no.exit_code, "nothing was changed" in no.stderr) == (1, True), no.output
    assert content(home) == known
    if path != "events erase":  # asks a service, which does not run
        yes = typed(home, *words, said="y\n")
        assert yes.exit_code == 0, yes.output
        assert content(home) != known
