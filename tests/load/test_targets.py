"""The table of targets: what is met, what was not measured, what a resumed run measures again."""

from argparse import Namespace
from pathlib import Path

import pytest

from load.scenarios import targets
from load.scenarios.targets import BEGIN, END, PARTS, RUNS, SECONDS, append, is_due, placed, records, table


def options(folder: Path, **changes: object) -> Namespace:
    given = {
        "state": folder / "state.jsonl",
        "runs": RUNS,
        "seconds": SECONDS,
        "resume": True,
        "soak_minutes": 30.0,
    }
    return Namespace(**given | changes)


def line(folder: Path, start: str) -> str:
    [found] = [line for line in table(records(folder / "state.jsonl")) if line.startswith(f"| {start}")]
    return found


@pytest.mark.parametrize(
    ("runs", "figures", "told"),
    [
        (RUNS, {"goodput": 0.9, "late": 0}, "≥ 0.9, ≤ 0 | 0.9, 0 | met |"),
        (RUNS, {"goodput": 0.8999, "late": 0, "others": 0.1}, "| 0.9, 0 | **short** |"),
        (RUNS, {"goodput": 0.95, "late": 1, "others": 0.3}, "| 0.95, 1 ~ | **short** |"),
        (RUNS - 1, {"goodput": 12345, "late": 0}, "| 12345, 0 ° | met |"),
        (RUNS, {"goodput": 0.95}, "| not measured |  |  |"),
        (RUNS, {"goodput": 0.95, "late": float("nan")}, "| not measured |  |  |"),
    ],
)
def test_a_target_is_met_if_each_of_its_figures_is(
    tmp_path: Path, runs: int, figures: dict[str, float], told: str
) -> None:
    append(options(tmp_path), "overload", {"goodput": 0.1, "late": 5})
    append(options(tmp_path, runs=runs), "overload", figures)
    assert told in line(tmp_path, "overload 3 ×: goodput")


def test_what_has_no_target_is_only_told(tmp_path: Path) -> None:
    append(options(tmp_path), "workers", {"together, 2 workers 64 × headrace together": 0.7})
    assert "| 0.68 | – | 0.7 |  |" in line(tmp_path, "two workers")


def test_each_row_is_of_a_part() -> None:
    assert {line.split(" | ")[2] for line in targets._ROWS.strip().splitlines()} <= PARTS.keys()


def test_a_resumed_run_measures_what_is_missing_or_too_short(tmp_path: Path) -> None:
    given = options(tmp_path)
    append(given, "calls", {"1 row C": 1})
    append(options(tmp_path, seconds=0.5), "canary", {"ratio": 1})
    with given.state.open("a") as file:
        file.write('{"part": "race", "figures": {')
    found = records(given.state)
    assert [name for name in ("calls", "canary", "race", "soak") if is_due(name, given, found)] == [
        "canary",
        "race",
        "soak",
    ]
    assert is_due("calls", options(tmp_path, resume=False), found)
    assert is_due("calls", given, {"calls": found["calls"] | {"revision": "another"}})
    assert not is_due("soak", options(tmp_path, soak_minutes=0.0), found)


def test_the_table_replaces_the_last_one_in_the_page() -> None:
    page = f"# Results\n\n{BEGIN}\nold\n{END}\n\nmore\n"
    assert placed(placed(page, "new"), "newer") == f"# Results\n\n{BEGIN}\nnewer\n{END}\n\nmore\n"
    with pytest.raises(SystemExit, match="no line"):
        placed("# Results\n", "new")
