"""The command breaks nothing that it was not told to break."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.gameday.faults import FAULTS
from headrace.cli.gameday.undo import Undo
from headrace.cli.main import app


def ran(home: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["gameday", *arguments, "--home", str(home)])
    return done.exit_code, done.output


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "settings").mkdir()
    return tmp_path


def test_without_a_fault_it_shows_them(home: Path) -> None:
    code, said = ran(home)
    assert code == 0
    for name, fault in FAULTS.items():
        assert name in said
        assert fault.expected.alert in said


def test_an_unknown_fault_is_refused(home: Path) -> None:
    code, said = ran(home, "flood")
    assert code == 2
    assert "flood" in said
    assert "killed" in said


def test_where_people_depend_on_it_it_must_be_told_twice(home: Path) -> None:
    (home / "settings" / "gameday.yaml").write_text("production: true\n")
    code, said = ran(home, "killed", "--yes")
    assert code == 1
    assert "--production" in said
    code, said = ran(home, "killed", "--yes", "--production")
    assert code == 1
    assert "not running" in said


def test_a_mark_that_cant_be_read_is_none(home: Path) -> None:
    (home / "settings" / "gameday.yaml").write_text("produktion: false\n")
    code, said = ran(home, "killed", "--yes")
    assert code == 1
    assert "produktion" in said


def test_what_an_earlier_one_left_can_be_undone(home: Path) -> None:
    file = home / "tenants.yaml"
    file.write_text("good")
    Undo(home / "run" / "gameday").write("tenants", {file: b"broken"})
    assert (ran(home, "--undo")[0], ran(home, "--undo", "--dry-run")[0], file.read_text()) == (2, 0, "broken")
    code, said = ran(home, "--undo", "--yes")
    assert (code, file.read_text()) == (0, "good")
    assert "put back" in said
    code, said = ran(home, "--undo")
    assert code == 0
    assert "nothing" in said
