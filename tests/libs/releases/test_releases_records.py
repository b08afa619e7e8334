"""A webhook hears of every change, and delays nothing."""

import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.hop.config import ConfigError
from headrace.releases import Freeze
from headrace.releases.changes import promoted, rollout_started
from headrace.releases.changes.rollouts import Plan
from headrace.releases.of_records import RecordReleases
from headrace.releases.records import (
    RecordedReleases,
    RecordSettings,
    Webhook,
    WebhookSettings,
    open_recorded,
)
from headrace.releases.records.webhook import signature
from tests.libs.releases.release_stores import REVISION, TEXT, release
from tests.libs.releases.small_pipeline import Home
from tests.libs.releases.webhook_receiver import Receiver, silent
from tests.released import releases_in
from tests.system import poll

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordReleases]:
    with releases_in(tmp_path / "control") as found:
        found.keep_document("flights", REVISION, TEXT)
        yield found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def webhook(url: str, complaints: list[str], folder: Path | None = None, **more: Any) -> Webhook:
    if folder is not None:
        (folder / "secret").write_text(SECRET + "\n")
        more["secret_file"] = folder / "secret"
    settings = {"url": url, "backoff_s": 0.01, **more}
    return Webhook(WebhookSettings.model_validate(settings), complaints.append, lambda: 1_800_000_000.0)


def test_a_change_is_told_with_a_signature(store: RecordReleases, tmp_path: Path, receiver: Receiver) -> None:
    complaints: list[str] = []
    hook = webhook(receiver.url, complaints, tmp_path)
    recorded = RecordedReleases(store, hook)
    recorded.commit(release(1, author="ann", reason="größer"))
    recorded.freeze(Freeze("ann", "holidays", NOON))
    assert receiver.arrived(2)
    headers, body = receiver.deliveries[0]
    expected = "sha256=" + signature(SECRET.encode(), headers["x-headrace-timestamp"], body)
    assert hmac.compare_digest(headers["x-headrace-signature"], expected)
    assert headers["x-headrace-timestamp"] == "1800000000"
    first, second = receiver.events
    assert first["id"] == headers["x-headrace-delivery"]
    assert {k: first[k] for k in ("event", "pipeline", "number", "author", "reason")} == {
        "event": "changed",
        "pipeline": "flights",
        "number": 1,
        "author": "ann",
        "reason": "größer",
    }
    assert first["live"]["models"] == {"m": "1"}
    assert (second["event"], second["reason"]) == ("frozen", "holidays")
    assert hook.close(60)
    assert complaints == []


def test_a_verdict_is_told_as_one(home: Home, receiver: Receiver) -> None:
    store = RecordedReleases(home.store, webhook(receiver.url, []))
    home.deploy(models={"light": "1"})
    arm = home.arm(name="candidate", models={"light": "2"})
    store.commit(rollout_started(home.basis(), arm, Plan(), NOON, None))
    store.commit(promoted(home.basis(), "fine: 0 of 9,000 bad"))
    assert receiver.arrived(2)
    assert [(e["event"], e.get("verdict")) for e in receiver.events] == [
        ("changed", None),
        ("verdict", "fine: 0 of 9,000 bad"),
    ]
    assert receiver.events[1]["rollout"] == {"arm": "candidate", "state": "promoted", "step": 4}
    store.close()


def test_what_fails_is_sent_again_as_the_same_event(receiver: Receiver) -> None:
    receiver.answers += [503, 429, 500]
    complaints: list[str] = []
    hook = webhook(receiver.url, complaints)
    hook.tell({"event": "changed"})
    assert hook.close(60)
    assert len(receiver.deliveries) == 4
    assert len({headers["x-headrace-delivery"] for headers, _ in receiver.deliveries}) == 1
    assert "x-headrace-signature" not in receiver.deliveries[0][0]
    assert (hook.delivered, hook.lost, complaints) == (1, 0, [])


@pytest.mark.parametrize(
    ("answers", "attempts", "told"),
    [([400], 1, "answers 400"), ([301], 1, "answers 301"), ([500] * 3, 3, "answers 500")],
)
def test_what_is_given_up_is_said(receiver: Receiver, answers: list[int], attempts: int, told: str) -> None:
    receiver.answers += answers
    complaints: list[str] = []
    hook = webhook(receiver.url, complaints, attempts=3)
    hook.tell({"event": "changed", "number": 1})
    hook.tell({"event": "changed", "number": 2})
    assert not hook.close(60)
    assert len(receiver.deliveries) == attempts + 1
    assert (hook.delivered, hook.lost) == (1, 1)
    assert told in complaints[0]


def test_a_receiver_that_hangs_delays_no_change_and_bounds_the_queue(store: RecordReleases) -> None:
    complaints: list[str] = []
    with silent() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token-in-path"
        hook = webhook(url, complaints, queue=2, timeout_s=60)
        recorded = RecordedReleases(store, hook)
        for number in range(1, 7):
            recorded.commit(release(number))
        # One is on its way, two wait.
        poll("three are dropped", lambda: hook.lost >= 3)
        assert store.current("flights")[0].number == 6
        assert all("one is dropped" in text for text in complaints)
        assert not hook.close(0)
    # Nobody listens there any more.
    hook = webhook(url, complaints, attempts=2)
    hook.tell({"event": "changed"})
    assert not hook.close(60)
    assert "ConnectionRefusedError" in complaints[-1]
    assert "token" not in str(complaints)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "ftp://host/"}, "needs https:// or http://"),
        ({"url": "file:///etc/passwd"}, "needs https:// or http://"),
        ({"url": "https:///path"}, "and a host"),
        ({"url": "https://u:s3cr3t@host/"}, "must not hold a user name"),
        ({"url": "https://host:s3cr3t/"}, "can't be read"),
        ({"url": "https://host/", "timeout_s": 0}, "timeout_s"),
        ({"url": "https://host/", "queue": 0}, "queue"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as error:
        WebhookSettings.model_validate(settings)
    [problem] = error.value.errors(include_input=False)
    assert told in json.dumps([problem["msg"], problem["loc"]])
    assert "s3cr3t" not in problem["msg"]


@pytest.mark.parametrize("content", [None, "short"])
def test_a_secret_that_cannot_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "secret"
    if content:
        path.write_text(content)
    settings = RecordSettings.model_validate({"webhook": {"url": "https://host/", "secret_file": path}})
    with pytest.raises(ConfigError, match=r"webhook\.secret_file") as error:
        open_recorded("control:unix:/nowhere", settings, print)
    assert content is None or content not in str(error.value)
