"""One request by any of its ids: the trace, masked inputs, features with their age, models, outcomes, explanation."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from headrace.hop.request_ids import request_key
from headrace.pipeline import parse
from services.monitoring.outcomes.records import StorageError
from tests.released import keep_document
from tests.services.monitoring.console.console_place import Browser, Place
from tests.services.monitoring.console.console_requests import (
    DOCUMENT,
    MAIL,
    REQUEST,
    SHA,
    TRACE,
    Recorded,
    answered,
    explained,
    recorded,
    trace,
)


@pytest.fixture
def known(place: Place) -> Iterator[Recorded]:
    yield recorded(place, explained)
    place.close()


async def result(browser: Browser, text: str, more: str = "") -> dict[str, Any]:
    reply = await browser.get(f"/requests.json?id={text}{more}")
    assert reply.status == 200
    return dict(reply.json)


async def test_a_request_is_found_by_each_of_its_ids(place: Place, known: Recorded, browser: Browser) -> None:
    by_request = (await result(browser, REQUEST))["found"]
    prediction = by_request["predictions"][0]["prediction_id"]
    found = [(await result(browser, text))["found"] for text in (TRACE, prediction)]
    alone = (await result(browser, f"{REQUEST}/1"))["found"]
    # Without its trace it is found by what the events say.
    (place.folder / "traces" / "spans.jsonl").unlink()
    untraced = (await result(browser, TRACE))["found"]
    assert [p["row"] for p in by_request["predictions"]] == [0, 1]
    assert {one["request_id"] for one in (*found, untraced)} == {REQUEST}
    assert [p["row"] for p in alone["predictions"]] == [1]
    assert (untraced["trace"], untraced["trace_id"]) == (None, TRACE)
    assert "sampled, failed or slow" in untraced["no_trace"]


async def test_it_says_what_it_was_made_of_and_what_became_of_it(known: Recorded, browser: Browser) -> None:
    found = (await result(browser, REQUEST))["found"]
    page = (await browser.get(f"/requests?id={REQUEST}")).text
    first, second = found["predictions"]
    assert [(s["name"], s["depth"], s["us"]) for s in found["trace"]["spans"]] == [
        ("Predict", 0, 26_808), ("Infer", 1, 18_085), ("store", 2, 3_134), ("m", 2, 1_877),
    ]  # fmt: skip
    assert [s["status"] for s in found["trace"]["spans"]] == ["", "", "FAILED_PRECONDITION", ""]
    assert first["models"] == [{"stage": "m", "model": "light", "version": "2", "sha256": SHA}]
    assert (first["arm"], first["release"], first["code"]) == ("live", 2, "OK")
    assert second["reason"] == "FEATURE_UNAVAILABLE"
    views = {view["view"]: view for view in first["views"]}
    assert list(views["weather"]["features"]) == ["temp", "wind"]
    assert (views["weather"]["age_s"], views["weather"]["limit_s"]) == (900.0, 3600.0)
    assert (views["planes"]["age_s"], views["planes"]["limit_s"]) == (2 * 86_400.0, None)
    assert "2\u00a0days old" in page
    assert second["views"][0]["source"] == "outside max_age"
    assert [(o["name"], o["value"]) for o in first["outcomes"]] == [("late", True)]
    assert second["outcomes"] == []
    # The largest contribution comes first, and all sum up to the output.
    explanation = first["explanation"]
    assert [row["column"] for row in explanation["rows"]] == ["temp", "hour"]
    added = sum(row["contribution"] for row in explanation["rows"])
    assert explanation["base"] + added == explanation["output"] == 0.3125
    assert f"headrace events replay --id {first['prediction_id']}" in page
    assert SHA in page


async def test_personal_data_is_masked(known: Recorded, browser: Browser) -> None:
    page = await browser.get(f"/requests?id={REQUEST}")
    found = await browser.get(f"/requests.json?id={REQUEST}")
    assert MAIL not in page.text + found.text
    first = found.json["found"]["predictions"][0]
    assert first["masked"] == ["email"]
    assert first["inputs"]["tail"] == "N789JB"
    assert first["inputs"]["email"].startswith("hash:")


async def test_a_request_id_that_two_tenants_have_sent_shows_both(place: Place, known: Recorded) -> None:
    at = place.wall - 10
    known.world.take(answered(parse(DOCUMENT, "flights").revision, at, "globex"), epoch=8)
    with (place.folder / "traces" / "spans.jsonl").open("a") as file:
        file.write(json.dumps(trace(at, "globex")) + "\n")
    async with place.operator() as browser:
        choice = (await browser.get(f"/requests?id={REQUEST}")).text
        pages = [
            (await browser.get(f"/requests.json?id={REQUEST}&tenant={tenant}")).json["found"]
            for tenant in ("acme", "globex")
        ]
        told = (await browser.get(f"/requests.json?id={REQUEST}")).json
    assert (told["tenants"], told["found"]) == (["acme", "globex"], None)
    for tenant, found in zip(told["tenants"], pages, strict=True):
        assert f"/requests?id={REQUEST}&amp;tenant={tenant}" in choice
        assert (found["tenant"], found["trace"]["spans"][0]["about"]["tenant"]) == (tenant, tenant)
        assert [p["row"] for p in found["predictions"]] == [0, 1]
    assert [len(found["predictions"][0]["outcomes"]) for found in pages] == [1, 0]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ("", 10),
        ("failed=1", 1),
        ("pipeline=flights&arm=live&release=2&tenant=acme", 10),
        ("arm=candidate", 0),
        ("release=3", 0),
        ("tenant=globex", 0),
        ("since=2026-11-26T11:59:29", 10),
        ("since=2026-11-26T12:00&pipeline=flights", 0),
        ("until=2026-11-26T11:00:00Z", 0),
    ],
)
@pytest.mark.parametrize("closed", [False, True])
async def test_the_newest_are_filtered_and_show_their_answers(
    known: Recorded, browser: Browser, asked: str, count: int, closed: bool
) -> None:
    if closed:
        known.world.store.close_due(everything=True)
    found = (await browser.get(f"/requests.json?{asked}")).json["newest"]
    page = (await browser.get(f"/requests?{asked}")).text
    assert len(found) == count
    assert count < 10 or (found[0]["request_id"] == "request-7" and f"/requests?id={REQUEST}" in page)
    assert ("delay: <b>0.26</b>" in page) is (count == 10)
    assert ("FEATURE_UNAVAILABLE" in page) is bool(count)


async def test_only_the_last_day_is_searched_unless_all_is_wanted(place: Place, known: Recorded) -> None:
    place.wall += 2 * 86_400
    async with place.operator() as browser:
        assert (await result(browser, "request-3"))["found"] is None
        page = await browser.get("/requests?id=request-3")
        assert "in the last day" in page.text
        whole = (await result(browser, "request-3", "&all=1"))["found"]
        nothing = await browser.get("/requests?id=%3Cb%3E&all=1")
    assert whole["request_id"] == "request-3"
    assert "older than what is kept" in nothing.text
    assert "<b>" not in nothing.text.partition("Nothing is known of")[2][:60]


@pytest.mark.parametrize(
    ("field", "text"), [("id", "x" * 1035), ("since", "x"), ("until", "1"), ("release", "x")]
)
async def test_what_is_no_id_time_or_number_is_refused(
    known: Recorded, browser: Browser, field: str, text: str
) -> None:
    reply = await browser.get(f"/requests.json?{field}={text}")
    assert (reply.status, reply.json["error"]["metadata"]["field"]) == (400, field)
    assert known.asked == []


@pytest.mark.parametrize("text", ["a%20b", "%C3%A4", "a%20b/7"])
async def test_a_callers_own_id_is_looked_up_by_its_key(known: Recorded, browser: Browser, text: str) -> None:
    assert (await browser.get(f"/requests?id={text}")).status == 200
    assert known.asked[0].request_id == request_key(unquote(text.removesuffix("/7")))


async def test_what_is_away_is_said_and_the_rest_is_shown(place: Place, known: Recorded) -> None:
    async def broken(_: bytes) -> None:
        raise RuntimeError("secret detail")

    async def away(*_: object) -> Any:
        raise StorageError("no space left on device")

    there = place.requests
    assert there is not None
    pages = []
    for sources, traces in (
        (replace(there, outcomes=away, explanation=broken), None),
        (replace(there, events=away), place.traces),
    ):
        place.requests, place.traces = sources, traces
        async with place.operator() as browser:
            page = await browser.get(f"/requests?id={REQUEST}")
        assert page.status == 200
        assert "secret detail" not in page.text
        pages.append(page.text)
    for text in (
        "The store of outcomes can&#39;t be reached",
        f"headrace trace {REQUEST}",
        "It can&#39;t be explained now",
        SHA,
    ):
        assert text in pages[0]
    assert "The store of events can&#39;t be reached" in pages[1]
    assert "Where its time went" in pages[1]


async def test_without_events_the_page_says_what_to_set(browser: Browser) -> None:
    page = await browser.get("/requests")
    assert "events.files" in page.text


async def test_ages_of_features_are_a_section_of_the_pipelines_page(
    place: Place, known: Recorded, browser: Browser
) -> None:
    [panel] = (await browser.get("/pipelines/flights.json")).json["panels"]
    place.wall += 600  # nothing came since: it is not known any more
    assert (await browser.get("/pipelines/flights.json")).json["panels"] == []
    planes, of_plane, weather, key = panel["rows"]
    assert (panel["level"], weather["level"], planes["level"]) == ("bad", "bad", "good")
    assert [of_plane["label"], weather["label"], key["label"]] == [
        "planes · N789JB",
        "weather",
        "weather · N789JB",
    ]
    assert (key["level"], key["value"]) == ("bad", "3\u00a0h of 60\u00a0min")
    assert "50\u00a0% outside max_age" in weather["note"]
    assert panel["data"]["views"]["weather"]["max_age_s"] == 3600
    assert panel["data"]["views"]["weather"]["age_p95_s"] == 3 * 3600
    assert "time to live" in planes["note"]


async def test_keys_that_are_personal_data_are_no_rows_of_the_section(
    place: Place, known: Recorded, browser: Browser
) -> None:
    text = DOCUMENT.replace("entities: [tail]", "entities: [email]")
    revision = parse(text, "flights").revision
    keep_document(place.store, "flights", revision, text)
    group = answered(revision, place.wall)
    known.world.take(replace(group, header=replace(group.header, release=3)), epoch=8)
    [panel] = (await browser.get("/pipelines/flights.json")).json["panels"]
    assert [row["label"] for row in panel["rows"]] == ["planes", "weather"]


async def test_the_chart_of_days_is_of_the_stored_events(
    place: Place, known: Recorded, browser: Browser
) -> None:
    known.world.take(answered(parse(DOCUMENT, "flights").revision, place.wall - 3600), epoch=8)
    found = (await browser.get("/pipelines/flights/series.json?days=1")).json
    page = (await browser.get("/pipelines/flights?days=7")).text
    refused = [await browser.get(f"/pipelines/flights/series.json?days={days}") for days in ("91", "x")]
    [live] = found["arms"]
    rows = [round(600 * rate) for rate in live["rows_per_s"]]
    assert (len(found["at"]), found["at"][-1], live["arm"]) == (145, place.wall // 600 * 600, "live")
    assert rows[-8:] == [0, 10, 0, 0, 0, 0, 10, 0]
    assert (live["error_share"][-2], live["p95_ms"][-2]) == (0.1, pytest.approx(15.4, abs=0.01))
    assert live["error_share"][-1] is None
    assert "/pipelines/flights/series.json?days=7" in page
    assert [(r.status, r.json["error"]["metadata"]["field"]) for r in refused] == [(400, "days")] * 2
