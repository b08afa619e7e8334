"""The suite's own tools: the descriptions hold together."""

from pathlib import Path

from headrace.cli.gameday import table
from headrace.slo import alert_names
from tests.chaos.record import ChaosRecord
from tests.chaos.test_chaos import FAULTS


def test_each_fault_has_a_name_of_its_own_and_an_alert_that_there_is() -> None:
    names = [chaos.expected.name for chaos in FAULTS]
    assert len(set(names)) == len(names)
    assert {chaos.expected.alert for chaos in FAULTS} <= set(alert_names())


def test_a_row_takes_the_place_of_its_faults_earlier_one(tmp_path: Path) -> None:
    page = tmp_path / "chaos.md"
    for row in ("| killed | 1 |\n", "| frozen | 2 |\n", "| killed | 3 |\n"):
        ChaosRecord(page).add(row)
    assert page.read_text().endswith(f"{table.HEAD}| killed | 3 |\n| frozen | 2 |\n")
