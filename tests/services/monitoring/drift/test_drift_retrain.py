"""The retrain trigger: rate-limited, remembered, delivered to a command that may fail or hang."""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from services.monitoring.drift.retrain import delivery
from services.monitoring.drift.retrain.policy import Cause, RetrainPolicy, Trigger
from services.monitoring.drift.retrain.webhook import Webhook, WebhookSettings
from services.monitoring.drift.settings import RetrainSettings
from tests.services.monitoring.drift.drift_monitor import Watched
from tests.services.waiting import until
from tests.webhook_receiver import Receiver

DAY_S = 86_400.0
CAUSE = Cause("distribution", "age", "age: its distribution differs", 0.0)


def trigger(now: float = 1000.0, *causes: Cause) -> Trigger:
    return Trigger("flights", "ab", "live", now, causes or (CAUSE,))


@given(st.lists(st.tuples(st.floats(0, 30_000), st.booleans()), max_size=200))
@settings(max_examples=50)
def test_the_rate_limit_holds_whatever_comes(looks: list[tuple[float, bool]]) -> None:
    found, now, due = RetrainPolicy(300.0, 3600.0, 3), 0.0, []
    for wait, drifts in looks:
        now += wait
        verdict, causes = found.judge("flights", [CAUSE] if drifts else [], now)
        assert (verdict == "none") == (not causes)
        if verdict == "due":
            due.append(now)
    assert all(b - a >= 3600.0 for a, b in pairwise(due))
    assert all(sum(t <= x < t + DAY_S for x in due) <= 3 for t in due)


def test_a_cause_must_last_and_pipelines_do_not_wait_for_each_other() -> None:
    found = RetrainPolicy(300.0, 3600.0, 2)
    assert found.judge("a", [CAUSE], 299.0)[0] == "none"
    assert found.judge("a", [CAUSE], 300.0)[0] == "due"
    assert found.judge("a", [CAUSE], 400.0)[0] == "held"
    assert found.judge("b", [CAUSE], 400.0)[0] == "due"


def test_a_clock_that_was_set_back_does_not_stop_them() -> None:
    found = RetrainPolicy(0.0, 3600.0, 2, {"a": [1e9]})
    assert found.judge("a", [CAUSE], 5000.0)[0] == "due"


def test_what_is_held_back_is_said_once() -> None:
    watched = Watched(retrain={"after_s": 0})
    for i in range(20):
        watched.retraining.consider(trigger(1000.0 + i))
    assert len(watched.log.of("a retraining is held back by its rate limit")) == 1
    watched.retraining.consider(trigger(1100.0, CAUSE, Cause("unseen", "carrier", "new", 0.0)))
    assert len(watched.log.of("a retraining is held back by its rate limit")) == 2


async def ran(
    command: list[str], ended: Callable[[Watched], Any], webhook: Webhook | None = None, **settings: Any
) -> Watched:
    watched = Watched(webhook, retrain={"after_s": 0, "command": command, **settings})
    watched.retraining.consider(trigger())
    task = asyncio.create_task(watched.retraining.run())
    try:
        await until(lambda: ended(watched))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return watched


async def test_the_command_gets_the_cause(tmp_path: Path) -> None:
    script = f"cat > {tmp_path}/cause.part && mv {tmp_path}/cause.part {tmp_path}/cause"
    await ran(["/bin/sh", "-c", script], lambda w: w.log.of("a retraining's command has ended"))
    found = json.loads((tmp_path / "cause").read_text())
    assert found["causes"] == [{"check": "distribution", "column": "age", "text": CAUSE.text, "since": 0.0}]
    assert found["pipeline"] == "flights"


@pytest.mark.parametrize(
    ("command", "settings_", "why"),
    [
        (["/bin/sh", "-c", "echo no data >&2; exit 3"], {}, "exit code 3: no data"),
        (["/no/such/program"], {}, "can't be started"),
        # The child of the shell must end as well, or its pipe would never close.
        (["/bin/sh", "-c", "sleep 300 & sleep 300"], {"command_timeout_s": 0.2}, "ran for longer than 0.2 s"),
    ],
)
async def test_a_failed_command_is_counted(command: list[str], settings_: dict[str, Any], why: str) -> None:
    watched = await ran(command, lambda w: w.log.of("a retraining's command failed"), **settings_)
    [line] = watched.log.of("a retraining's command failed")
    assert why in line["why"]
    assert watched.metric("retrain_failures_total", pipeline="flights") == 1


def test_a_command_that_does_not_read_its_input_is_no_failure() -> None:
    """On the loop that services have: there a pipe whose reader is gone raises what no documentation names."""

    async def told() -> bytes:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", "exit", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        await process.wait()
        return await delivery._told(process, b"x" * 100_000)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(told()) == b""


async def test_the_webhook_is_told_whatever_becomes_of_the_command() -> None:
    with closing(Receiver()) as receiver:
        receiver.answers.append(400)
        hook = Webhook(WebhookSettings(url=receiver.url), lambda: 0.0)
        watched = await ran(["/no/such/program"], lambda w: w.log.of("a retraining's webhook failed"), hook)
        [event] = receiver.events
    assert (event["event"], event["pipeline"], event["causes"][0]["column"]) == ("retrain", "flights", "age")
    assert watched.metric("retrain_failures_total", pipeline="flights") == 2


async def test_a_command_ends_with_the_service(tmp_path: Path) -> None:
    # Its input comes once the service has all its pipes: it is no longer being started when it is ended.
    begin = f"read cause; echo $$ > {tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid"
    script = f"{begin}; sleep 300"
    await ran(["/bin/sh", "-c", script], lambda _: (tmp_path / "pid").exists())
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "wrong", [{"command": [""]}, {"per_day": 0}, {"checks": ["sorrow"]}, {"webhook": {"url": "ftp://x"}}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetrainSettings.model_validate(wrong)
