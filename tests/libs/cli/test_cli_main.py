"""The command line as a whole: every command is there, and a call imports only what it needs."""

import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from headrace.cli.main import COMMANDS, app

# Each takes longer to import than `headrace down` takes.
LARGE = ("pydantic", "numpy", "grpc", "google.protobuf", "yaml", "cryptography")


def test_the_help_shows_every_command_with_what_it_does() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    lines = {words[1]: words[2:] for line in shown.splitlines() if len(words := line.split()) > 3}
    assert [name for name in lines if name in COMMANDS] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_name_by_which_it_is_called(name: str) -> None:
    group: Any = get_command(app)
    assert group.commands[name].name == name


def test_an_unknown_command_is_told_with_the_nearest() -> None:
    told = CliRunner().invoke(app, ["dwn"])
    assert told.exit_code == 2
    assert "down" in told.stderr


@pytest.mark.parametrize("command", ["down", "restart", "logs"])
def test_a_small_command_does_without_large_packages(command: str) -> None:
    program = (
        "import sys; from headrace.cli import main; from typer.main import get_command; "
        f"get_command(main.app).commands[{command!r}]; print(*sorted({{*sys.modules}} & {{*{LARGE!r}}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
