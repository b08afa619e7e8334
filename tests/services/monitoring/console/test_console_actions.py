"""What operators do from the console: by the rules and with the sentences of the command line, and with their name."""

from typing import Any

import pytest

from headrace.releases import Freeze, ReleaseError, RolloutState
from headrace.releases.changes import Basis, paused
from headrace.repository import changes
from tests.services.monitoring.console.console_place import START, Browser, Place


@pytest.fixture
def place(place: Place) -> Place:
    place.roll_out()
    return place


def offers(values: dict[str, Any]) -> set[str]:
    return {offer["action"] for offer in values["actions"] if offer["possible"]}


async def act(browser: Browser, place: Place, action: str, number: int, **fields: str) -> Any:
    """As a program; the reply's JSON."""
    path = f"/pipelines/flights/actions/{action}.json"
    return await browser.call(path, place.keys["operator"], number=number, **fields)


async def test_a_rollout_is_paused_and_resumed_from_its_page_with_the_operators_name(
    browser: Browser, place: Place
) -> None:
    page = await browser.get("/pipelines/flights")
    assert "/pipelines/flights/actions/pause" in page.text
    assert "/pipelines/flights/actions/resume" not in page.text
    question = await browser.get("/pipelines/flights/actions/pause")
    assert "the rollout: running → paused" in question.text
    assert place.store.history("flights")[0].number == 2
    done = await browser.post("/pipelines/flights/actions/pause", {"number": "2", "reason": "wait <for> ann"})
    assert (done.status, done.location) == (303, "/pipelines/flights?done=3")
    values = (await browser.get("/pipelines/flights.json")).json
    assert (await act(browser, place, "resume", 3)).status == 200
    assert offers(values) == {"resume", "promote", "abort", "freeze"}
    resumed, made = place.store.history("flights")[:2]
    assert (made.reason, made.author) == ("wait <for> ann", resumed.author)
    assert made.author.startswith("operator/")
    assert resumed.rollout is not None
    assert resumed.rollout.state is RolloutState.RUNNING


@pytest.mark.parametrize(
    ("action", "state", "models"),
    [("promote", RolloutState.PROMOTED, {"light": "2"}), ("abort", RolloutState.ABORTED, {"light": "1"})],
)
async def test_a_rollout_is_ended(
    place: Place, action: str, state: RolloutState, models: dict[str, str]
) -> None:
    async with place.browser() as browser:
        done = await act(browser, place, action, 2, reason="ticket 7")
        assert done.status == 200
        values = await browser.get("/pipelines/flights.json", x_api_key=place.keys["operator"])
    release = place.store.history("flights")[0]
    assert (release.number, release.live.models) == (3, models)
    assert release.rollout is not None
    assert release.rollout.state is state
    assert offers(values.json) == {"freeze"}


async def test_what_the_command_line_refuses_is_refused_with_the_same_sentence(place: Place) -> None:
    place.store.commit(paused(Basis.of(place.store, "flights", "ann")))
    with pytest.raises(ReleaseError) as refused:
        paused(Basis.of(place.store, "flights", "ann"))
    async with place.browser() as browser:
        again = await act(browser, place, "pause", 3)
        late = await act(browser, place, "abort", 2)
        place.store.freeze(Freeze("bob", "holiday", START))
        frozen = await act(browser, place, "resume", 3)
        changes.remove(place.releases.records, place.models.root, "light", "2", "bob")
        gone = await act(browser, place, "promote", 3)
        unknown = await act(browser, place, "delete", 3)
    assert (again.status, [again.json["error"]["message"]]) == (400, list(refused.value.problems))
    assert (late.status, late.json["error"]["reason"]) == (409, "RELEASE_STALE")
    assert (frozen.status, frozen.json["error"]["reason"]) == (409, "RELEASE_FROZEN")
    assert frozen.json["error"]["message"].startswith("frozen by bob (holiday)")
    assert "arms.live.models.light: model 'light' has no version '2'" in gone.json["error"]["message"]
    assert unknown.status == 404
    assert place.store.history("flights")[0].number == 3


async def test_automation_is_frozen_for_one_pipeline_and_for_all(browser: Browser, place: Place) -> None:
    assert (await act(browser, place, "freeze", 2, reason="incident")).status == 200
    again = await act(browser, place, "freeze", 3)
    assert (again.status, again.json["error"]["message"]) == (409, "nothing to change (release 3)")
    assert (await act(browser, place, "unfreeze", 3)).status == 200
    await browser.get("/freeze")
    done = await browser.post("/freeze", {"frozen": "yes", "reason": "holiday"})
    assert (done.status, done.location) == (303, "/freeze")
    assert "All automation is frozen" in (await browser.get("/")).text
    freeze = (await browser.get("/freeze.json")).json["freeze"]
    wrong = await browser.post("/freeze", {"frozen": "perhaps"})
    await browser.post("/freeze", {"frozen": "no"})
    assert (freeze["author"][:9], freeze["reason"]) == ("operator/", "holiday")
    assert wrong.status == 400
    assert place.store.frozen() is None
    assert [r.frozen for r in place.store.history("flights")[:3]] == [False, True, False]


async def test_a_reason_without_an_end_is_refused(place: Place) -> None:
    async with place.browser() as browser:
        reply = await act(browser, place, "pause", 2, reason="x" * 2001)
    assert (reply.status, reply.json["error"]["metadata"]["field"]) == (400, "reason")
    assert place.store.history("flights")[0].number == 2
