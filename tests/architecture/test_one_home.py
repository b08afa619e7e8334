"""The list of end-to-end tests that machines can't run is true, and what is not on it runs there or fails."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines.one_home import BOUND

ROOT = Path(__file__).parents[2]
PIPELINE = ROOT / "tests" / "pipeline"
# Files of end-to-end tests with names that are on the list, and one that is not.
LISTED = """
def test_of_a_home(): ...
"""
SYSTEM = """
import pytest

@pytest.fixture
def system(): ...

@pytest.fixture
def through(system): ...
"""
RUNS = """
import pytest

def test_runs(through): ...

@pytest.mark.skip(reason="promtool is not installed (apt-get install promtool)")
def test_lacks_a_program(system): ...
"""
SKIPS = """
import pytest

def test_skips(system):
    pytest.skip("machines have no supervisor")
"""
ALONE = """
def test_needs_no_system(): ...
"""
TO_BE_LISTED = (
    "to be listed in tests/machines/one_home.py: ['tests/pipeline/test_other.py::test_needs_no_system']"
)


def test_what_is_bound_is_there_and_says_why() -> None:
    for name, why in BOUND.items():
        file, _, test = name.partition("::")
        nodes = ast.walk(ast.parse((PIPELINE / file).read_text()))
        there = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert not test or (test in there and test.startswith("test_")), name
        assert not test or file not in BOUND, f"{name}: the whole file is bound"
        assert len(why.split()) > 1, name


@pytest.mark.parametrize(
    ("source", "machines", "said"),
    [
        (RUNS, "1", "1 passed, 1 skipped, 1 deselected"),
        (RUNS, "", "2 passed, 1 skipped"),
        (SKIPS, "1", "1 failed, 1 deselected"),
        (SKIPS, "", "1 passed, 1 skipped"),
        (ALONE, "1", TO_BE_LISTED),
        (ALONE, "", TO_BE_LISTED),
    ],
)
def test_what_is_not_bound_runs_or_fails(tmp_path: Path, source: str, machines: str, said: str) -> None:
    folder = tmp_path / "tests" / "pipeline"
    folder.mkdir(parents=True)
    (folder / "conftest.py").write_text(SYSTEM)
    (folder / next(name for name in BOUND if "::" not in name)).write_text(LISTED)
    (folder / "test_other.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.pipeline.conftest", "-p", "no:randomly"]
    done = subprocess.run(
        [*command, "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(folder)],
        cwd=ROOT,
        env={**os.environ, "HEADRACE_TESTS_MACHINES": machines, "HEADRACE_TESTS_REQUIRE_ALL": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said in done.stdout + done.stderr, done.stdout + done.stderr
