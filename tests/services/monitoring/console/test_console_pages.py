"""The console's pages: what changed, is it safe, roll back; each for people and for programs."""

from typing import Any

import pytest

from headrace.catalog.access import Change, Write
from headrace.releases import RolloutState
from headrace.repository import changes
from services.monitoring.console.ports import Panel
from services.monitoring.console.web import application, views
from services.monitoring.guards.guard import Verdict
from tests.services.monitoring.console.console_place import PAGES, Browser, Place, drift, judged, minutes


@pytest.fixture
def place(place: Place) -> Place:
    place.answer(20_000, 4)
    place.wall += minutes(5)
    place.deploy(version="2", reason="ticket <7>")
    place.answer(8_000, 2)
    place.report()
    return place


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_is_a_page_and_json(browser: Browser, path: str) -> None:
    page = await browser.get(path)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "<h1>" in page.text
    accepted = await browser.get(path, accept="application/json")
    named = await browser.get("/index.json" if path == "/" else f"{path}.json")
    assert accepted.json == named.json
    assert accepted.headers["content-type"] == "application/json"


async def test_the_first_page_says_what_changed_whether_it_is_safe_and_offers_the_way_back(
    browser: Browser,
) -> None:
    [card] = (await browser.get("/index.json")).json["pipelines"]
    page = (await browser.get("/")).text
    assert (card["release"]["number"], card["release"]["author"]) == (2, "ann")
    assert card["release"]["changes"] == ["arm live: model light 1 → 2"]
    assert (card["assessment"]["level"], card["assessment"]["title"]) == ("good", "answers well")
    assert "2 of 8\u202f000 rows failed (0.03\u00a0%); at most" in card["assessment"]["sentence"]
    assert card["way_back"]["to"] == 1
    assert "/pipelines/flights/rollback?to=1" in page
    # What people write is text, never markup.
    assert "ticket &lt;7&gt;" in page
    assert "<7>" not in page


async def test_what_is_unchanged_for_a_day_and_well_is_one_line(place: Place) -> None:
    place.wall += 86_401
    cards = []
    async with place.operator() as browser:
        page = (await browser.get("/")).text
        for bad in (0, 3_000):
            place.answer(2_000 + bad, bad)
            place.report()
            cards += (await browser.get("/index.json")).json["pipelines"]
    assert "Unchanged for a day" in page
    assert "<article" not in page
    assert [card["quiet"] for card in cards] == [True, False]


async def test_more_failures_than_allowed_are_named(browser: Browser, place: Place) -> None:
    place.answer(2_000, 300)
    place.report()
    found = (await browser.get("/index.json")).json
    assert found["attention"] == ["flights"]
    assert found["pipelines"][0]["assessment"]["title"] == "fails or is slow"


async def test_a_rollout_shows_its_ladder_what_it_waits_for_and_its_figures(
    browser: Browser, place: Place
) -> None:
    place.roll_out()
    found = (await browser.get("/pipelines/flights.json")).json
    part = (await browser.get("/pipelines/flights/now")).text
    place.statuses["flights"] = judged(3, Verdict.HARM, 90)
    harmed = (await browser.get("/pipelines/flights.json")).json
    rollout = found["rollout"]
    assert [step["state"] for step in rollout["ladder"]] == ["done", "now", "to come", "to come", "to come"]
    assert rollout["waits_for"].startswith("errors: an excess of at most 0.61%")
    assert rollout["guards"][0]["canary"] == {"rows": 1260, "bad": 1, "share": pytest.approx(1 / 1260)}
    assert found["assessment"]["level"] == "watch"
    assert "Rollout of arm candidate, running" in part
    assert "<html" not in part
    assert (harmed["assessment"]["level"], harmed["assessment"]["title"]) == ("bad", "harm")
    assert harmed["way_back"]["label"] == "End the rollout"


async def test_the_end_of_a_rollout_is_told_with_its_verdict(browser: Browser, place: Place) -> None:
    place.roll_out()
    place.end_rollout("flights", "harm by errors at 5.00%", RolloutState.ROLLED_BACK)
    [card] = (await browser.get("/index.json")).json["pipelines"]
    history = (await browser.get("/pipelines/flights.json")).json["history"]
    assert (card["assessment"]["level"], card["assessment"]["title"]) == ("undone", "rolled back")
    assert card["assessment"]["sentence"].startswith("harm by errors at 5.00%")
    assert len(history) == 4


async def test_a_rollback_tells_what_will_change_then_does_it_and_records_it(
    browser: Browser, place: Place
) -> None:
    question = await browser.get("/pipelines/flights/rollback?to=1")
    assert "arm live: model light 2 → 1" in question.text
    assert place.store.history("flights")[0].number == 2
    done = await browser.post("/pipelines/flights/rollback", {"number": "2", "to": "1", "reason": "it lies"})
    assert (done.status, done.location) == (303, "/pipelines/flights?done=3")
    assert "Done: release 3 is current" in (await browser.get(done.location)).text
    release = place.store.history("flights")[0]
    assert (release.number, release.restores, release.live.models["light"]) == (3, 1, "1")
    assert release.author.startswith("operator/")
    assert release.reason == "it lies"


async def test_a_rollback_by_a_program_and_one_that_came_too_late(place: Place) -> None:
    async with place.browser() as browser:
        path, key = "/pipelines/flights/rollback.json", place.keys["operator"]
        late = await browser.call(path, key, number=1)
        done = await browser.call(path, key, number=2)
        again = await browser.call(path, key, number=3, to=1)
        card = (await browser.get("/pipelines/flights.json", x_api_key=key)).json
        page = (await browser.get("/pipelines/flights", x_api_key=key)).text
        back = await browser.call(path, key, number=3)
        models = (await browser.get("/models.json", x_api_key=key)).json["models"]
        version = (await browser.get("/models/light/2", x_api_key=key)).text
    assert (late.status, late.json["error"]["reason"]) == (409, "RELEASE_STALE")
    assert late.json["error"]["metadata"]["number"] == "2"
    assert (done.status, done.json["release"]["number"]) == (200, 3)
    assert (again.status, again.json["error"]["message"]) == (409, "nothing to change (release 3)")
    assert [r.number for r in place.store.history("flights")] == [3, 2, 1]
    # Going back once more would make the bad one live again.
    assert back.status == 400
    assert not card["way_back"]["possible"]
    assert [r["rolled_back_by"] for r in card["history"]] == [None, 3, None]
    assert not any(r["can_go_back"] for r in card["history"])
    assert "rolled back by 3" in page
    marked = {v["version"]: v["rolled_back"] for v in models[0]["versions"]}
    assert marked == {"1": [], "2": ["flights, by release 3"]}
    assert "rolled back in flights, by release 3" in version


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/pipelines/none", 404),
        ("/pipelines/..%2f..%2fetc", 404),
        ("/pipelines/flights/rollback?to=9", 400),
        ("/pipelines/flights/rollback?to=two", 400),
        ("/models/light/9", 404),
        ("/models/..%2f/1", 404),
        ("/nowhere", 404),
        ("/static/../pages.py", 404),
    ],
)
async def test_what_there_is_not_is_a_clear_page(browser: Browser, path: str, status: int) -> None:
    page = await browser.get(path)
    assert page.status == status
    assert "Traceback" not in page.text


async def test_a_dead_store_is_a_notice_beside_old_facts(
    browser: Browser, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:

    def dead(*_: object) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(place.releases.records, "position", dead)
    monkeypatch.setattr(place.releases, "pipelines", dead)
    page = await browser.get("/")
    change = await browser.post("/pipelines/flights/rollback", {"number": "2"})
    assert page.status == 200
    assert "The store of releases can&#39;t be reached" in page.text
    assert "flights" in page.text
    assert change.status == 503
    assert "Input/output" not in change.text + page.text


async def test_a_damaged_journal_is_said(browser: Browser, place: Place) -> None:
    path = place.model_log
    first, second, rest = path.read_text().split("\n", 2)
    path.write_text(f"{first}\n{second[:-1]}\n{rest}")
    [trail] = (await browser.get("/audit.json")).json["trails"]
    page = await browser.get("/audit")
    assert trail["problem"].startswith("line 2: it is damaged")
    assert "Not read to its end: line 2" in page.text
    assert str(path) not in page.text


async def test_what_other_parts_bring_is_a_section_and_one_that_fails_takes_nothing_with_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dummy(*_: object) -> dict[str, Any]:
        return {"notices": [], "panels": [await drift("flights")]}

    async def none(_: str) -> None:
        return None

    async def broken(_: str) -> Panel:
        raise RuntimeError("secret detail")

    place.panels += [drift, none, broken]
    page_of_panels = {"/dummy": views.View(dummy, "panels.html", "All", "Dummy")}
    monkeypatch.setattr(application, "views", lambda parts: {**views.views(parts), **page_of_panels})
    async with place.operator() as browser:
        page = await browser.get("/pipelines/flights")
        found = (await browser.get("/pipelines/flights.json")).json
        own = (await browser.get("/dummy")).text
    assert '<a href="/dummy" aria-current="page">Dummy</a>' in own
    assert [text.count('<h2 class="section">Drift of inputs</h2>') for text in (own, page.text)] == [1, 1]
    assert [panel["title"] for panel in found["panels"]] == ["Drift of inputs"]
    assert found["panels"][0]["data"] == {"columns": 24}
    assert "A section of this page can&#39;t be read now" in page.text
    assert "secret detail" not in page.text


async def test_models_say_who_signed_them_where_they_come_from_and_what_was_altered(
    browser: Browser, place: Place
) -> None:
    two = (await browser.get("/models/light/2.json")).json
    (place.models.root / "light" / "1" / "model.onnx").write_bytes(b"altered")
    (place.models.root / "light" / "1" / "metadata.json").touch()
    listed = (await browser.get("/models.json")).json["models"][0]
    one = (await browser.get("/models/light/1.json")).json
    page = await browser.get("/models/light/1")
    assert (two["signature"]["state"], two["parents"]) == ("verified", [{"model": "light", "version": "1"}])
    assert two["used_by"] == ["flights · live"]
    assert one["children"] == [{"model": "light", "version": "2"}]
    assert [v["version"] for v in listed["versions"]] == ["2", "1"]
    assert one["signature"]["state"] == "not trusted"
    assert "not trusted" in page.text


async def test_a_model_that_cannot_be_listed_is_a_row_that_says_so(browser: Browser, place: Place) -> None:
    write = Write("model", "heavy", b"{}")
    place.releases.records.change(Change("ann", "model.add", "heavy", [write], "", {}))
    heavy, light = (await browser.get("/models.json")).json["models"]
    page = await browser.get("/models")
    assert (heavy["model"], heavy["versions"]) == ("heavy", [])
    assert heavy["problem"].startswith("its index can't be read")
    assert [v["version"] for v in light["versions"]] == ["2", "1"]
    assert (await browser.get("/models/light/2")).status == 200
    assert "its index can&#39;t be read" in page.text


async def test_a_way_back_to_a_version_that_is_gone_warns(browser: Browser, place: Place) -> None:
    changes.remove(place.releases.records, place.models.root, "light", "1", "bob")
    page = await browser.get("/pipelines/flights/rollback")
    assert "model &#39;light&#39; has no version &#39;1&#39;" in page.text


async def test_without_a_release_or_an_older_one_there_is_no_button_and_the_reason_is_said(
    empty_place: Place,
) -> None:
    place = empty_place
    async with place.operator() as browser:
        assert "No pipeline has a release yet" in (await browser.get("/")).text
    place.deploy()
    async with place.operator() as browser:
        page = await browser.get("/")
        question = await browser.get("/pipelines/flights/rollback")
    assert "No way back: no release with another live arm is kept" in page.text
    assert "/rollback" not in page.text
    assert question.status == 400
