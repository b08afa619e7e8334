"""Delivery by the webhook: signed, again where it fails, bounded."""

import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.hop.config import ConfigError
from headrace.releases.webhook import Webhook, WebhookSettings, signature
from tests.libs.releases.webhook_receiver import Receiver, silent
from tests.system import poll

SECRET = "0123456789abcdef0123456789abcdef"


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


def test_an_event_is_told_with_a_signature(tmp_path: Path, receiver: Receiver) -> None:
    complaints: list[str] = []
    hook = webhook(receiver.url, complaints, tmp_path)
    hook.tell({"event": "changed", "reason": "größer"})
    assert receiver.arrived(1)
    headers, body = receiver.deliveries[0]
    expected = "sha256=" + signature(SECRET.encode(), headers["x-headrace-timestamp"], body)
    assert hmac.compare_digest(headers["x-headrace-signature"], expected)
    assert headers["x-headrace-timestamp"] == "1800000000"
    assert receiver.events == [{"id": headers["x-headrace-delivery"], "event": "changed", "reason": "größer"}]
    assert hook.close(60)
    assert complaints == []


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


def test_a_receiver_that_hangs_delays_nobody_and_bounds_the_queue() -> None:
    complaints: list[str] = []
    with silent() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token-in-path"
        hook = webhook(url, complaints, queue=2, timeout_s=60)
        for number in range(1, 7):
            hook.tell({"event": "changed", "number": number})
        # One is on its way, two wait.
        poll("three are dropped", lambda: hook.lost >= 3)
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
    settings = WebhookSettings.model_validate({"url": "https://host/", "secret_file": path})
    with pytest.raises(ConfigError, match=r"webhook\.secret_file") as error:
        Webhook(settings, print)
    assert content is None or content not in str(error.value)
