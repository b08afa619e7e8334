"""Each requirement has tests and commands that show it, or says what is missing; and those are there."""

import argparse
import tomllib
from pathlib import Path
from typing import Any

import pytest

from load.scenarios import commands as scenarios

FOLDER = Path(__file__).parents[1]
ROWS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("requirements.toml").read_text())
IDS = [
    f"{part}{n}"
    for part, last in zip("ABCDEFG", (14, 5, 7, 5, 9, 6, 8), strict=True)
    for n in range(1, last + 1)
]


def test_each_requirement_has_its_row_in_order() -> None:
    assert list(ROWS) == IDS


def measurements() -> set[str]:
    commands = argparse.ArgumentParser().add_subparsers()
    scenarios.add(commands)
    return set(commands.choices)


@pytest.mark.parametrize("name", IDS)
def test_its_tests_and_commands_exist(name: str) -> None:
    row = ROWS[name]
    assert [test for test in row["tests"] if not (FOLDER / test).is_file()] == []
    assert [
        c for c in row.get("commands", []) if c.removeprefix("python -m load ") not in measurements()
    ] == []
    assert row["title"]
    assert row["tests"] or row["missing"]
