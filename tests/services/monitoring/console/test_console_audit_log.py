"""The audit on the console: each line verified here; who reads is recorded, or gets nothing."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from headrace.catalog.access import Change, Write
from headrace.catalog.records import CatalogRecords
from headrace.catalog.tables import AUDIT, HEAD
from headrace.releases.of_records import RecordReleases
from headrace.state.json_lines import entries
from tests.services.monitoring.console.console_place import Browser, Place

CHANGES = 60
# The first line begins the audit, and the last ones are the keys of two tenants and two versions of a model.
NEWEST = CHANGES + 5


@pytest.fixture
def records(tmp_path: Path) -> Iterator[CatalogRecords]:
    found = CatalogRecords.open(str(tmp_path / "control.sqlite"), initialise=True)
    for number in range(CHANGES):
        write = Write("release", "flights", b"%d" % number)
        found.change(Change("ann", "release.change", "flights", [write], "too slow", {"number": str(number)}))
    yield found
    found.close()


@pytest.fixture
def place(tmp_path: Path, records: CatalogRecords) -> Place:
    return Place(tmp_path, RecordReleases(records))


@pytest.fixture
async def browser(place: Place) -> AsyncIterator[Browser]:
    async with place.operator() as found:
        yield found


async def test_the_newest_lines_are_shown_and_hold(browser: Browser, records: CatalogRecords) -> None:
    page = await browser.get("/audit/log")
    found = (await browser.get("/audit/log.json")).json
    head = records.position()
    assert found["position"] == {"epoch": 1, "number": NEWEST, "head": head.head.hex()}
    assert [line["number"] for line in found["lines"]] == list(range(NEWEST, NEWEST - 50, -1))
    assert all(line["holds"] for line in found["lines"])
    newest = found["lines"][NEWEST - CHANGES - 1]
    assert (newest["action"], newest["actor"], newest["reason"]) == ("release.change", "ann", "too slow")
    assert {"key": "release flights", "value": f"version {CHANGES}"} in newest["about"]
    assert "too slow" in page.text
    assert f'href="/audit/log?before={found["older"]}"' in page.text
    older = (await browser.get(f"/audit/log.json?before={found['older']}")).json
    assert [line["number"] for line in older["lines"]] == list(range(found["older"] - 1, 0, -1))
    assert older["older"] is None


@pytest.mark.parametrize("harm", ["altered", "newest altered", "another line", "another head"])
async def test_what_does_not_hold_is_marked(browser: Browser, records: CatalogRecords, harm: str) -> None:
    number = NEWEST if harm in ("newest altered", "another head") else CHANGES - 5
    other = next(iter(records.lines(CHANGES - 9)))
    values = {"line": other.line, "sha256": other.sha256} if harm == "another line" else {"line": b"{}"}
    change = AUDIT.update().where(AUDIT.c.number == number).values(values)
    if harm == "another head":
        change = HEAD.update().values(sha256=bytes(32))
    records.database.write(lambda connection: connection.execute(change))
    found = (await browser.get("/audit/log.json")).json
    assert [line["number"] for line in found["lines"] if not line["holds"]] == [number]
    assert f"Altered: line {number}." in (await browser.get("/audit/log")).text


async def test_a_reading_is_recorded_first_or_nothing_is_shown(browser: Browser, place: Place) -> None:
    readings = place.folder / "audit" / "readings.jsonl"
    for path in ("/audit", "/audit/log"):
        assert (await browser.get(path)).status == 200
    found = [(entry["event"], entry["who"].split("/")[0], entry["what"]) for entry in entries(readings)]
    assert found == [("read", "operator", "journals"), ("read", "operator", "the audit")]
    assert all(entry["who"].endswith(" (console)") for entry in entries(readings))
    readings.unlink()
    readings.mkdir()
    refused = [await browser.get(path) for path in ("/audit", "/audit/log")]
    assert [page.status for page in refused] == [503, 503]
    assert "too slow" not in refused[1].text


async def test_a_control_that_is_away_is_said(browser: Browser, records: CatalogRecords) -> None:
    records.close()
    assert (await browser.get("/audit/log")).status == 503
