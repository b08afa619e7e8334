"""The slow tests have a command that runs: they are collected, run file by file, written down, and gone on with."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests import ledger, slow
from tests.ledger import Row, counted, results
from tests.stopped import state
from tests.system import poll

ROOT = Path(__file__).parents[2]
TESTS = """
import os, subprocess, sys
import pytest
pytestmark = pytest.mark.slow

@pytest.mark.skipif("FIRST" in os.environ, reason="no NVIDIA GPU")
def test_good(): ...
def test_bad(): assert "MENDED" in os.environ, "not mended"
def test_bad_skip(): pytest.skip("aics is not installed")
def test_leaves():
    subprocess.run(["sh", "-c", "sleep 987 & echo $! > {0}/left"], check=True)
def test_crashes():
    if "MENDED" not in os.environ: os._exit(3)
def test_last(): sum(range(20_000_000))
"""
HANGS = """
import time
from pathlib import Path
import pytest
pytestmark = pytest.mark.slow

def test_good(): ...
def test_hangs():
    Path("{0}/hangs").touch()
    time.sleep(600)
"""
# With a ledger of its own, and as in a checkout without a change.
COMMAND = """
import os, sys
from pathlib import Path
from tests import ledger, slow
slow.ENDED_S = float(os.environ.get("LIMIT", 600))
ledger.LEDGER, head = Path(sys.argv.pop()), ledger.git("rev-parse", "HEAD")[:12]
ledger.revision, slow.PROGRAMS = (lambda: head), {}
sys.exit(slow.main(sys.argv[1:]))
"""


def test_every_line_of_the_ledger_can_be_read_and_proves_something() -> None:
    rows = ledger.read()
    assert [row for row in rows if not len(row) or row.revision.endswith(ledger.CHANGED)] == []


@pytest.mark.timeout(900)  # it imports all tests: half a minute of a processor
def test_all_slow_tests_can_be_collected_at_once() -> None:
    assert len(slow.collected("tests")) > 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below the checkout, as pytest runs tests elsewhere by other settings."""
    (ROOT / ".headrace").mkdir(exist_ok=True)
    with TemporaryDirectory(dir=ROOT / ".headrace") as found:
        (Path(found) / "test_few.py").write_text(TESTS.replace("{0}", found))
        yield Path(found)


def words(folder: Path, *options: str) -> list[str]:
    own = ["--only", str(folder / "test_few.py"), "--since", "HEAD"]
    return [sys.executable, "-c", COMMAND, *own, *options, str(folder / "ledger.jsonl")]


def command(folder: Path, *options: str, **environment: str) -> tuple[int, str]:
    environment = {**os.environ, **environment, "HEADRACE_TESTS_REQUIRE_ALL": ""}
    done = subprocess.run(
        words(folder, *options), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def test_each_result_is_a_line_and_the_command_goes_on(folder: Path) -> None:
    code, told = command(folder, FIRST="1")
    assert (code, "2 passed, 2 failed, 2 skipped" in told) == (1, True), told
    first, second = rows_of(folder)
    assert list(first["passed"]) == ["test_leaves"]
    assert first["skipped"] == {"test_good": "no NVIDIA GPU", "test_bad_skip": "aics is not installed"}
    assert "not mended" in first["failed"]["test_bad"]
    assert "exit code 3" in first["failed"]["test_crashes"]
    assert first["left"] == ["sleep 987"]
    assert state_of(folder) in "gone X Z"
    assert list(second["passed"]) == ["test_last"]
    assert second["cpu_s"] > 0
    # What is left: the test that may not be skipped. What failed is run again on demand alone.
    assert "1 of 6 slow tests to run" in command(folder, "--list")[1]
    code, told = command(folder, "--check")
    assert (code, "0 without a result, 3 not proven" in told) == (1, True), told
    code, told = command(folder, "--failed", MENDED="1")
    assert (code, "2 passed, 0 failed, 0 skipped" in told) == (0, True), told
    assert "0 without a result, 1 not proven" in command(folder, "--check")[1]


def test_what_was_stopped_goes_on_and_the_limit_ends_it(folder: Path) -> None:
    (folder / "test_few.py").write_text(HANGS.replace("{0}", str(folder)))
    with subprocess.Popen(words(folder), cwd=ROOT) as running:
        poll("the second test runs", (folder / "hangs").exists)
        running.terminate()
    assert (running.returncode, [[*row["passed"], *row["failed"]] for row in rows_of(folder)]) == (
        130,
        [["test_good"]],
    )
    assert "1 of 2 slow tests to run" in command(folder, LIMIT="1")[1]
    assert rows_of(folder)[1]["failed"]["test_hangs"].startswith("ended by the limit")


def state_of(folder: Path) -> str:
    try:
        return state(int((folder / "left").read_text()))
    except OSError:
        return "gone"


def test_a_result_counts_from_a_revision_on_and_the_newest_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before, head = "b" * 12, "a" * 12
    commits = {"b..HEAD": head, "b^{commit}": before, "a..HEAD": "", "a^{commit}": head}
    monkeypatch.setattr(ledger, "git", lambda _, name: commits[name])
    rows = [
        Row(before, "2026-11-01", "a.py", passed={"x": 1.0, "y": 1.0}),
        Row(head, "2026-11-02", "a.py", failed={"x": "no"}),
        Row("0" * 12, "2026-11-03", "a.py", passed={"x": 1.0}),
    ]
    found = results(counted(rows, "b"))
    assert {test: result.outcome for test, result in found.items()} == {
        "a.py::x": "failed",
        "a.py::y": "passed",
    }
    assert list(results(counted(rows, "a"))) == ["a.py::x"]


def test_a_test_has_the_whole_time_once_before_the_limit_ends_it() -> None:
    progress = slow.Progress(Path(os.devnull))
    progress._begun, progress._ended = ["a::1", "a::2"], {"a::1": {}}
    assert progress.cut(["a::1", "a::2"], limited=True) == []
    assert progress.cut(["a::1", "a::2"], limited=False) == ["a::2"]
    progress._begun, progress._ended = ["a::2"], {}
    assert progress.cut(["a::2"], limited=True) == ["a::2"]
