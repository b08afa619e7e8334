"""In CI a skip for want of something is a failure; a listed one stays a skip."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import skips

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="Triton is not installed")
def test_marked(): ...

def test_called():
    pytest.skip("this redis-server has no TLS")

def test_listed():
    pytest.skip("no NVIDIA GPU")

def test_right():
    pytest.skip("mounts are not allowed here")

@pytest.mark.xfail
def test_expected_failure():
    assert False
"""
MOUNTS = skips.possible(skips.RIGHTS["mount"])
WITH_RIGHTS = "2 failed, 1 skipped" if MOUNTS else "1 failed, 2 skipped"
MODULE = "import pytest; pytest.importorskip('no_such_module')"


@pytest.mark.parametrize(
    ("source", "required", "counts"),
    [
        (TESTS, "1", f"{WITH_RIGHTS}, 1 xfailed, 1 error"),
        (TESTS, "", "4 skipped, 1 xfailed"),
        (MODULE, "1", "1 error"),
        (MODULE, "", "1 skipped"),
    ],
)
def test_a_skip(tmp_path: Path, source: str, required: str, counts: str) -> None:
    (tmp_path / "test_skipping.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"]
    done = subprocess.run(
        [*command, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "HEADRACE_TESTS_REQUIRE_ALL": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{counts} in" in done.stdout, done.stdout


@pytest.mark.parametrize(
    ("command", "allowed"), [("true", False), ("false", True), ("no-such-program", True)]
)
def test_a_right_that_the_machine_gives_is_no_reason(
    monkeypatch: pytest.MonkeyPatch, command: str, allowed: bool
) -> None:
    monkeypatch.setitem(skips.RIGHTS, "ptrace", (command,))
    assert skips.allowed("a thread can't be stopped here: ptrace: no") == allowed
