"""The webhook hears of each change once, whoever made it, from the control that committed it."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headrace.catalog.access import Change, Write
from headrace.releases import Freeze
from headrace.releases.document import to_bytes
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.libs.releases.webhook_receiver import Receiver, silent
from tests.released import Released, keep_document, released
from tests.system import poll

ROLLOUT = {"arm": "candidate", "since": 2, "verdict": ""}
ARMS = {name: {"version": 1, "revision": REVISION, "models": {"m": "1"}} for name in ("live", "candidate")}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as found:
        yield found


@pytest.fixture
def releases(tmp_path: Path, receiver: Receiver) -> Iterator[Released]:
    with released(tmp_path / "control", webhook={"url": receiver.url, "backoff_s": 0.01}) as found:
        keep_document(found.store, "flights", REVISION, TEXT)
        yield found


def test_changes_verdicts_and_the_freeze_are_told(releases: Released, receiver: Receiver) -> None:
    store = releases.store
    store.commit(release(1, author="ann", reason="größer"))
    store.commit(release(2, arms=ARMS, rollout=ROLLOUT))
    for number, state in ((3, "promoted"), (4, "promoted")):
        store.commit(release(number, arms=ARMS, rollout={**ROLLOUT, "state": state, "verdict": "fine"}))
    store.freeze(Freeze("ann", "holidays", datetime.now(UTC)))
    store.freeze(None)
    store.remove("flights")
    assert receiver.arrived(7)
    told = [(e["event"], e.get("number"), e.get("verdict"), e.get("reason")) for e in receiver.events]
    assert told == [
        ("changed", 1, None, "größer"),
        ("changed", 2, None, None),
        ("verdict", 3, "fine", None),
        ("changed", 4, "fine", None),
        ("frozen", None, None, "holidays"),
        ("unfrozen", None, None, None),
        ("removed", None, None, None),
    ]
    first, third = receiver.events[0], receiver.events[2]
    assert (first["pipeline"], first["author"], first["live"]["models"]) == ("flights", "ann", {"m": "1"})
    assert third["rollout"] == {"arm": "candidate", "state": "promoted", "step": 0}


def test_a_change_that_is_sent_again_is_told_with_its_id(releases: Released, receiver: Receiver) -> None:
    records = releases.store.records
    change = Change("me", "release.change", "flights", [Write("release", "flights", to_bytes(release(1)), 0)])
    records.change(change)
    records.change(change)
    assert receiver.arrived(2)
    assert [event["id"] for event in receiver.events] == [change.id] * 2


def test_what_is_given_up_is_said_and_delays_nothing(tmp_path: Path) -> None:
    with silent() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token-in-path"
        settings = {"url": url, "queue": 1, "timeout_s": 60}
        with released(tmp_path / "control", webhook=settings) as releases:
            keep_document(releases.store, "flights", REVISION, TEXT)
            for number in range(1, 6):
                releases.store.commit(release(number))
            # One is on its way, one waits.
            poll(
                "three are lost", lambda: releases.control.metric("headrace_control_webhook_lost_total") == 3
            )
            assert releases.store.current("flights")[0].number == 5
