"""The audit log on the console: each entry with a proof that holds elsewhere too; who reads is recorded, or gets nothing."""

import base64
import json
from pathlib import Path

import pytest

from headrace.audit import Verifier, tree
from headrace.audit.notes import opened
from tests.services.monitoring.console.console_place import Browser, Place


@pytest.fixture
def place(place: Place) -> Place:
    place.deploy(version="2", reason="ticket <7>")
    place.collect()
    return place


def bundle(place: Place) -> Path:
    [found] = [p for p in (place.log.log / "tile" / "entries").rglob("*") if p.is_file()]
    return found


async def test_each_entry_is_shown_with_its_proof_and_the_checkpoint(browser: Browser) -> None:
    page = await browser.get("/audit/log")
    found = (await browser.get("/audit/log.json")).json
    older = (await browser.get("/audit/log.json?before=1")).json
    assert page.text.count("holds</span>") == 2
    assert [(row["index"], row["kind"], row["holds"]) for row in found["entries"]] == [
        (1, "changed", True), (0, "changed", True),
    ]  # fmt: skip
    assert (found["checkpoint"]["size"], found["older"]) == (2, None)
    assert found["checkpoint"]["origin"] == "headrace.test/audit"
    assert [row["index"] for row in older["entries"]] == [0]
    assert "ticket &lt;7&gt;" in page.text


async def test_a_proof_that_was_downloaded_holds_by_the_log_s_key_alone(
    browser: Browser, place: Place
) -> None:
    page = await browser.get("/audit/log/1")
    told = (await browser.get("/audit/log/1.json")).json
    assert 'href="/audit/log/1.json" download' in page.text
    key = Verifier.parse((place.folder / "audit.pub").read_text())
    checkpoint, _ = opened(told["checkpoint"].encode(), key)
    entry, hashes = base64.b64decode(told["entry"]), [base64.b64decode(h) for h in told["proof"]]
    assert tree.includes(tree.leaf_hash(entry), 1, checkpoint.size, hashes, checkpoint.root)
    assert not tree.includes(tree.leaf_hash(entry + b" "), 1, checkpoint.size, hashes, checkpoint.root)
    assert "ticket <7>" in told["text"]


async def test_who_reads_is_recorded_before_and_who_can_t_be_recorded_gets_nothing(
    browser: Browser, place: Place
) -> None:
    for path in ("/audit", "/audit/log", "/audit/log/0"):
        assert (await browser.get(path)).status == 200
    acts = [json.loads(line) for line in place.log.access.path.read_text().splitlines()]
    place.log.access.path.unlink()
    place.log.access.path.mkdir()  # nothing can be appended any more
    refused = [await browser.get(path) for path in ("/audit", "/audit/log", "/audit/log/0")]
    assert [(a["event"], a["who"].partition("/")[0], a["who"][-9:]) for a in acts] == [
        ("read", "operator", "(console)"), ("read", "operator", "(console)"), ("proved", "operator", "(console)"),
    ]  # fmt: skip
    assert [reply.status for reply in refused] == [503] * 3
    assert not any("ticket" in reply.text for reply in refused)


async def test_what_was_altered_is_said_at_its_entry(browser: Browser, place: Place) -> None:
    path = bundle(place)
    path.write_bytes(path.read_bytes().replace(b"the first", b"the worst"))
    page = await browser.get("/audit/log")
    found = (await browser.get("/audit/log.json")).json
    proof = await browser.get("/audit/log/0.json")
    assert [row["holds"] for row in found["entries"]] == [True, False]
    assert "Altered: entry 0" in page.text
    assert (proof.status, proof.json["error"]["code"]) == (500, "DATA_LOSS")


@pytest.mark.parametrize(("path", "status"), [("2", 404), ("x", 400), ("-1", 400)])
async def test_an_entry_that_is_not_there(browser: Browser, path: str, status: int) -> None:
    assert (await browser.get(f"/audit/log/{path}.json")).status == status


async def test_a_log_that_has_not_begun_is_said(empty_place: Place) -> None:
    async with empty_place.operator() as browser:
        page = await browser.get("/audit/log")
        proof = await browser.get("/audit/log/0.json")
    assert "no checkpoint yet" in page.text
    assert proof.status == 404


async def test_security_events_with_personal_data_are_commitments(place: Place) -> None:
    async with place.operator():
        pass
    place.collect()
    async with place.operator() as browser:
        rows = (await browser.get("/audit/log.json")).json["entries"]
    [event] = [row for row in rows if row["source"] == "security"]
    assert (event["kind"], event["line"], event["holds"]) == ("console_sign_in", "", True)
    assert "headrace audit export --persons" in event["withheld"]
