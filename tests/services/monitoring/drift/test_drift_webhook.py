"""Delivery by the webhook of retrainings: signed, again where it fails, bounded."""

import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.hop.config import ConfigError
from services.monitoring.drift.retrain.webhook import Webhook, WebhookSettings, signature
from tests.webhook_receiver import Receiver, silent

SECRET = "0123456789abcdef0123456789abcdef"
EVENT = {"event": "retrain", "pipeline": "größer"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


def webhook(url: str, folder: Path | None = None, **more: Any) -> Webhook:
    if folder is not None:
        (folder / "secret").write_text(SECRET + "\n")
        more["secret_file"] = folder / "secret"
    settings = {"url": url, "backoff_s": 0.01, **more}
    return Webhook(WebhookSettings.model_validate(settings), lambda: 1_800_000_000.0)


async def test_an_event_is_told_with_a_signature(tmp_path: Path, receiver: Receiver) -> None:
    assert await webhook(receiver.url, tmp_path).deliver(EVENT) == ""
    [(headers, body)] = receiver.deliveries
    expected = "sha256=" + signature(SECRET.encode(), headers["x-headrace-timestamp"], body)
    assert hmac.compare_digest(headers["x-headrace-signature"], expected)
    assert headers["x-headrace-timestamp"] == "1800000000"
    assert receiver.events == [{"id": headers["x-headrace-delivery"], **EVENT}]


async def test_what_fails_is_sent_again_as_the_same_event(receiver: Receiver) -> None:
    receiver.answers += [503, 429, 500]
    assert await webhook(receiver.url).deliver(EVENT) == ""
    assert len(receiver.deliveries) == 4
    assert len({headers["x-headrace-delivery"] for headers, _ in receiver.deliveries}) == 1
    assert "x-headrace-signature" not in receiver.deliveries[0][0]


@pytest.mark.parametrize(("answers", "attempts"), [([400], 1), ([301], 1), ([500] * 3, 3)])
async def test_what_is_given_up_is_said(receiver: Receiver, answers: list[int], attempts: int) -> None:
    receiver.answers += answers
    assert f"answers {answers[0]}" in await webhook(receiver.url, attempts=3).deliver(EVENT)
    assert len(receiver.deliveries) == attempts


async def test_a_receiver_that_hangs_or_is_gone_is_given_up() -> None:
    with silent() as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/token-in-path"
        began = time.monotonic()
        assert "TimeoutError" in await webhook(url, attempts=2, timeout_s=0.2).deliver(EVENT)
        assert time.monotonic() - began < 30
    # Nobody listens there any more.
    said = await webhook(url, attempts=2).deliver(EVENT)
    assert "ConnectionRefusedError" in said
    assert "token" not in said


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
        Webhook(settings, time.time)
    assert content is None or content not in str(error.value)
