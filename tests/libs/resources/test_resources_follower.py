"""A process that follows control over real sockets, and what it does while control misbehaves."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.api.control.v1.resources_pb2 import Resource as ResourceMessage
from headrace.api.control.v1.resources_pb2 import WatchRequest, WatchResponse
from headrace.resources import follower as follower_module
from headrace.resources.apply import Limits
from headrace.resources.follower import Follower
from tests.libs.resources.control_history import (
    History,
    Misbehaviour,
    SmallControl,
    key,
    served,
)
from tests.libs.resources.following import following, keys, until


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control that hangs is given up early."""
    monkeypatch.setattr(follower_module, "WAIT_S", 0.2)
    monkeypatch.setattr(follower_module, "GRACE_S", 0.2)
    monkeypatch.setattr(follower_module, "_MAX_PAUSE_S", 0.2)


@pytest.fixture
def follower(target: str, short_waits: None) -> Iterator[Follower]:
    with following(target) as follower:
        until(lambda: follower.view)
        yield follower


def test_a_change_is_live_and_reported(control: SmallControl, follower: Follower) -> None:
    assert keys(follower) == {"a": "1", "b": "1"}
    position = control.change(key("a", "2"), deleted=(("key", "b"),))
    seen = follower.view.state
    assert follower.wait(seen, 60).position == position
    assert keys(follower) == {"a": "2"}
    control.wait_for(lambda requests: requests[-1].have.number == position.number)
    assert control.requests[-1].ready
    status = follower.status()
    assert (status.position, status.problem, status.diverged) == (position, "", False)


ENDLESS = History()
ENDLESS.begin_epoch()


def endless_pages(request: WatchRequest) -> WatchResponse:
    signed = ENDLESS.part().signed
    return WatchResponse(
        manifest=signed.raw,
        signature=signed.signature,
        whole=True,
        may_apply=True,
        page=request.page_after + 1,
        resources=[ResourceMessage(kind="key", name=f"gone{request.page_after}")],
    )


def never(request: WatchRequest) -> WatchResponse:
    time.sleep(1)  # longer than the question waits
    return WatchResponse()


def crash(request: WatchRequest) -> WatchResponse:
    raise RuntimeError("control is broken")


MISBEHAVIOURS: dict[str, Misbehaviour] = {f.__name__: f for f in (endless_pages, never, crash)}


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_control_misbehaves(
    name: str, control: SmallControl, follower: Follower, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.resources.follower_state.MAX_RESOURCES", 20)
    control.become(history, MISBEHAVIOURS[name])
    until(lambda: follower.status().problem)
    assert keys(follower) == {"a": "1", "b": "1"}
    before = len(control.requests)
    control.wait_for(lambda requests: len(requests) > before + (25 if name == "endless_pages" else 1))
    assert keys(follower) == {"a": "1", "b": "1"}
    control.become(history)
    control.change(key("a", "2"))
    until(lambda: keys(follower) == {"a": "2", "b": "1"})
    assert follower.status().problem == ""


def test_a_partition_ends_well(history: History, tmp_path: Path) -> None:
    socket = tmp_path / "control.sock"
    with following(f"unix:{socket}", tmp_path / "process") as follower:
        until(lambda: follower.status().problem)
        assert follower.view is None
        with served(SmallControl(history), socket):
            until(lambda: follower.view)
            until(lambda: not follower.status().problem)
        until(lambda: follower.status().problem)
        age = follower.status().age_s
        until(lambda: follower.status().age_s > age)
        history.change(key("a", "2"))
        with served(SmallControl(history), socket):
            until(lambda: keys(follower)["a"] == "2")
            until(lambda: follower.status().problem == "")


def test_one_control_hangs(control: SmallControl, target: str, history: History, tmp_path: Path) -> None:
    hung = SmallControl(history)
    with served(hung, tmp_path / "hung.sock") as other:
        hung.become(history, never)
        control.become(history, never)
        with following(f"{other},{target}") as follower:
            until(lambda: hung.requests)
            assert follower.view is None
            control.become(history)
            until(lambda: follower.view)
            control.change(key("a", "2"))
            until(lambda: keys(follower)["a"] == "2")


def test_control_is_not_flooded(control: SmallControl, target: str, history: History) -> None:
    with following(target, limits=Limits(proof_s=0.0)) as follower:
        until(lambda: follower.view)
        control.become(history, lambda _: WatchResponse())
        control.wait_for(lambda requests: requests[-1].wait_ms == int(follower_module.WAIT_S * 1000))
        began, before = time.monotonic(), len(control.requests)
        control.wait_for(lambda requests: len(requests) >= before + 5)
        assert time.monotonic() - began >= 4 * follower_module._LEAST_S


def test_a_closed_follower_ends_its_waits_and_may_be_closed_again(target: str, tmp_path: Path) -> None:
    with following(target, tmp_path / "process") as follower:
        until(lambda: follower.view)
        waiting = threading.Thread(target=follower.wait, args=(follower.view.state, 600))
        waiting.start()
        follower.close()
        waiting.join(60)
        assert not waiting.is_alive()
