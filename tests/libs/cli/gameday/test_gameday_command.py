"""The command breaks nothing that it was not told to break, and undoes its fault whatever ends it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.gameday.faults import FAULTS
from headrace.cli.gameday.undo import Undo
from headrace.cli.main import app
from tests.children import ends_with_tests
from tests.stopped import state
from tests.system import poll


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


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "words"),
    [
        ("", ("flood",), 2, ("flood", "killed")),
        # Where people depend on it, it must be told twice.
        ("production: true", ("killed", "--yes"), 1, ("--production",)),
        ("production: true", ("killed", "--yes", "--production"), 1, ("not running",)),
        # A mark that can't be read is none.
        ("produktion: false", ("killed", "--yes"), 1, ("produktion",)),
    ],
)
def test_what_is_refused(
    home: Path, settings: str, arguments: tuple[str, ...], code: int, words: tuple[str, ...]
) -> None:
    (home / "settings" / "gameday.yaml").write_text(settings)
    ended, said = ran(home, *arguments)
    assert ended == code
    assert [word for word in words if word not in said] == []


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


_BREAKS = """
import signal, sys, time
from pathlib import Path
from headrace.cli.gameday.guard import guarded
from headrace.cli.gameday.undo import Undo
# Who runs the tests in the background of a shell has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder, file = map(Path, sys.argv[1:])
with guarded(folder):
    Undo(folder).write("tenants", {file: b"broken"})
    print("broken", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.yaml"
    path.write_bytes(b"good")
    path.chmod(0o640)
    return path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(ends_with_tests("sleep", "600"))
    yield process
    process.kill()
    process.wait()


def test_a_file_is_put_back_as_it_was(tmp_path: Path, file: Path) -> None:
    undo = Undo(tmp_path / "gameday")
    undo.write("tenants", {file: b"broken"})
    assert (file.read_bytes(), undo.pending()) == (b"broken", "tenants")
    assert undo.apply() == [f"{file} put back"]
    assert (file.read_bytes(), file.stat().st_mode & 0o777, undo.pending()) == (b"good", 0o640, "")
    assert undo.apply() == []


def test_what_somebody_changed_meanwhile_stays(tmp_path: Path, file: Path) -> None:
    undo = Undo(tmp_path / "gameday")
    undo.write("tenants", {file: b"broken"})
    file.write_bytes(b"mended by hand")
    [said] = undo.apply()
    assert file.read_bytes() == b"mended by hand"
    assert (tmp_path / "tenants.yaml.before-gameday").read_bytes() == b"good"
    assert "tenants.yaml.before-gameday" in said


def test_a_stopped_process_goes_on_and_another_with_its_pid_is_left_alone(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = Undo(tmp_path)
    undo.stop("frozen", sleeper.pid)
    poll("it is stopped", lambda: state(sleeper.pid) == "T")
    undo.apply()
    poll("it goes on", lambda: state(sleeper.pid) == "S")
    undo.stop("frozen", sleeper.pid)
    poll("it is stopped", lambda: state(sleeper.pid) == "T")
    monkeypatch.setattr("headrace.cli.gameday.undo.started", lambda _: "later")
    assert undo.apply() == []
    assert state(sleeper.pid) == "T"


def test_one_that_has_ended_hinders_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(ends_with_tests("sleep", "600"))
    undo = Undo(tmp_path)
    undo.stop("frozen", process.pid)
    process.kill()
    process.wait()
    assert undo.apply() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_guard_undoes_what_a_killed_command_left(
    tmp_path: Path, file: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "gameday"
    command = [sys.executable, "-c", _BREAKS, str(folder), str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"broken\n"
        assert file.read_bytes() == b"broken"
        process.send_signal(number)
    poll("it is put back", lambda: file.read_bytes() == b"good")
