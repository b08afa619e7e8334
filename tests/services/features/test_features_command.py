"""`headrace features`: rows pushed, tables materialised, both compared."""

import json
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.main import app
from tests.agreed import with_yes
from tests.services.features.calling import get, serving
from tests.services.features.conftest import NOW


@pytest.fixture
def home(own_sqlite_repo: Path) -> Path:
    return own_sqlite_repo.parent


def run(*words: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, with_yes("features", *words))
    return found.exit_code, found.output


def plane(tail: str, seats: int, later_s: float) -> str:
    moment = (NOW + timedelta(seconds=later_s)).isoformat()
    return json.dumps({"tail": tail, "rating": None, "seats": seats, "model": "m", "event_timestamp": moment})


async def test_pushed_rows_are_served_and_older_ones_left_out(home: Path, now: object) -> None:
    rows = home / "rows.jsonl"
    rows.write_text(
        "\n".join([plane("p1", 7, 0), plane("p1", 6, -30), plane("new", 8, 0), plane("p2", 5, -9999)])
    )
    code, text = run("push", "planes", rows, "--home", home)
    assert (code, text) == (0, "2 rows written into planes, 2 left out: there were newer ones\n")
    async with serving(home / "feast") as harness:
        found = await get(harness, {"tail": ["p1", "new", "p2"], "airport": [1] * 3, "carrier": ["UA"] * 3})
    assert found.values["seats"] == [7, 8, 102]
    assert found.values["rating"] == [None, None, 2 / 7]


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("nothing", "{}", "no view or push source 'nothing'"),
        ("planes", "{", "line 1 is no JSON"),
        ("planes", "[]", "line 1 is no JSON object"),
        ("planes", '{"tail": "x"}', "need rating, seats, model, event_timestamp"),
        ("planes", plane("x", 1, 0).replace("2026", "soon"), "a time that is none"),
    ],
)
def test_rows_that_do_not_fit_are_named(home: Path, name: str, line: str, said: str) -> None:
    rows = home / "rows.jsonl"
    rows.write_text(line)
    code, text = run("push", name, rows, "--home", home)
    assert code == 1
    assert said in text


@pytest.mark.filterwarnings("ignore")  # Feast's own, from its offline store
def test_check_tells_whether_the_store_is_what_the_tables_say(home: Path) -> None:
    code, text = run("check", "--home", home, "--sample", 1000)
    assert code == 0
    cells = {line.split()[0]: line.split()[1:6] for line in text.splitlines()[1:]}
    assert cells["planes"] == ["300", "0", "0", "900", "0"]
    with sqlite3.connect(home / "feast" / "online_store.db") as online:
        online.execute("UPDATE small_planes SET value = X'' WHERE feature_name = 'seats'")
        online.execute("DELETE FROM small_airports")
    code, text = run("check", "--home", home, "--sample", 1000)
    assert code == 1
    cells = {line.split()[0]: line.split()[1:6] for line in text.splitlines()[1:6]}
    assert cells["airports"] == ["3", "3", "0", "0", "0"]
    assert cells["planes"] == ["300", "0", "0", "900", "300"]
    code, text = run("materialize", "planes", "airports", "--home", home, "--until", "2026-06-02T00:00:00")
    assert (code, "the online store is at 2026-06-02" in text) == (0, True)
    assert run("check", "--home", home, "--sample", 1000)[0] == 0


def test_a_home_without_a_repository_is_named(tmp_path: Path) -> None:
    code, text = run("check", "--home", tmp_path / "none")
    assert code == 1
    assert "no feature repository" in text
