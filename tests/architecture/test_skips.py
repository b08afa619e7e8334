"""In CI a skip for want of something is a failure; a listed one stays a skip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="Triton is not installed")
def test_marked(): ...

def test_called():
    pytest.skip("this redis-server has no TLS")

def test_listed():
    pytest.skip("mounts are not allowed here")

@pytest.mark.xfail
def test_expected_failure():
    assert False
"""
MODULE = "import pytest; pytest.importorskip('no_such_module')"


@pytest.mark.parametrize(
    ("source", "required", "counts"),
    [
        (TESTS, "1", "1 failed, 1 skipped, 1 xfailed, 1 error"),
        (TESTS, "", "3 skipped, 1 xfailed"),
        (MODULE, "1", "1 error"),
        (MODULE, "", "1 skipped"),
    ],
)
def test_a_skip(tmp_path: Path, source: str, required: str, counts: str) -> None:
    (tmp_path / "test_skipping.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-c",
        str(ROOT / "pyproject.toml"),
    ]
    done = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "HEADRACE_TESTS_REQUIRE_ALL": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{counts} in" in done.stdout, done.stdout
