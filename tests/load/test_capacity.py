"""What a load needs: by figures that are easy to reckon with."""

import json
from pathlib import Path
from typing import Any

import pytest

from load.__main__ import main
from load.scenarios import capacity


def line(rows: int, router: float, at_once: int = 64, shape: str = "apart") -> dict[str, Any]:
    services = {"router": router, "features": 50.0}
    return {
        "shape": shape,
        "rows": rows,
        "at_once": at_once,
        "services_us": services,
        "memory_mib": {"router": 50, "features": 160},
    }


KEPT = [line(1, 100.0), line(64, 730.0), line(1, 9999.0, at_once=1), line(64, 1.0, shape="together")]


def test_each_service_needs_twice_the_cores_that_it_uses() -> None:
    needs = capacity.plan(KEPT, "apart", 10_000, 1, 0.5)
    assert needs["router"] == capacity.Need(100.0, 2, 2.0, 100.0)
    assert needs["features"] == capacity.Need(50.0, 1, 1.0, 160.0)


def test_between_what_was_measured_cpu_grows_evenly_with_rows() -> None:
    assert capacity.plan(KEPT, "apart", 1, 11, 0.5)["router"].us == pytest.approx(200.0)
    assert capacity.plan(KEPT, "apart", 1, 64, 0.5)["router"].us == 730.0


def test_the_figures_of_full_batches_count() -> None:
    assert capacity.plan(list(reversed(KEPT)), "apart", 1, 1, 0.5)["router"].us == 100.0


def test_what_was_not_measured_is_not_guessed() -> None:
    with pytest.raises(SystemExit, match="no figures of 1 rows a request, together"):
        capacity.plan(KEPT, "together", 1, 1, 0.5)


def test_a_million_requests_cost_what_their_core_hours_do() -> None:
    assert capacity.monthly(2.0, 0.05) == 73.0
    # A core at 100 requests a second serves a million in 10,000 s.
    assert capacity.per_million(1.0, 100, 0.36) == pytest.approx(1.0)


def test_without_a_rate_usual_ones_are_told_by_the_figures_that_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["capacity"])
    told = capsys.readouterr().out.splitlines()
    assert sum(row.startswith("| 100,000 |") for row in told) == 4
    page = (capacity.FIGURES.parent / "CAPACITY.md").read_text().splitlines()
    assert [row for row in told if row and row not in page] == [], (
        "python -m load capacity says otherwise now"
    )


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps(KEPT))
    main(["capacity", "--rate", "10000", "--price", "0.1", "--figures", str(figures)])
    told = capsys.readouterr().out
    assert "| **all** | 150 | 3 | 3.0 | 260 |" in told
    assert "219 a month" in told
