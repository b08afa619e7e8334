"""The prices file: a mistake names file, line and key, and leaves what was in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.cost import Prices, PricesFile

GOOD = "currency: EUR\nprices:\n  core_hour: 0.5\nbudget: {per_1000: 0.02, pipelines: {flights: 1}}\n"


@pytest.fixture
def file(tmp_path: Path) -> PricesFile:
    return PricesFile(tmp_path / "prices.yaml", tmp_path / "kept" / "prices.json")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prices:\n  core_hour: -1\n", ("line 2", "core_hour")),
        ("prices:\n  core_hours: 1\n", ("line 2", "core_hours")),
        ("currency: EUR\nreserved: {cores: 0}\n", ("line 2", "cores")),
        ("prices: [", ("line 1",)),
        ("currency: much\n", ("line 1", "currency")),
    ],
)
def test_a_mistake_leaves_the_last_good_one_in_force(
    file: PricesFile, text: str, told: tuple[str, ...]
) -> None:
    file.path.write_text(GOOD)
    assert file.refresh().prices.core_hour == 0.5
    file.path.write_text(text)
    assert file.refresh().prices.core_hour == 0.5
    assert all(part in file.problem for part in (str(file.path), *told))
    # Also after a restart.
    again = PricesFile(file.path, file.kept)
    assert again.refresh().currency == "EUR"
    assert again.problem == file.problem
    # It heals by itself.
    file.path.write_text(GOOD.replace("0.5", "0.25"))
    assert file.refresh().prices.core_hour == 0.25
    assert not file.problem


def test_without_a_file_the_defaults_are_in_force(file: PricesFile) -> None:
    assert (file.refresh(), file.problem) == (Prices(), "")
    file.path.write_text(GOOD)
    assert file.refresh().currency == "EUR"
    file.path.unlink()
    assert (file.refresh(), file.problem) == (Prices(), "")


def test_a_file_that_can_t_be_read_leaves_the_last_good_one(file: PricesFile) -> None:
    file.path.write_text(GOOD)
    file.refresh()
    file.path.unlink()
    file.path.mkdir()
    assert file.refresh().currency == "EUR"
    assert "can't be read" in file.problem
