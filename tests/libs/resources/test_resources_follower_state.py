"""What a follower makes of answers: pages, refusals, divergence; and that no control can make it take what does not descend."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from headrace.api.control.v1.resources_pb2 import RejectedResource, WatchRequest, WatchResponse
from headrace.api.control.v1.resources_pb2 import Resource as Message
from headrace.resources import follower_state
from headrace.resources.follower_state import FollowerState, Next
from headrace.resources.manifest import Signer
from tests.libs.resources.control_history import OTHER_PRIVATE, VERIFIER, History, key


def state(history: History | None = None) -> FollowerState:
    return FollowerState("door-1", "ingress", VERIFIER, history.part() if history else None)


def question(follower: FollowerState, wait_s: float = 0) -> WatchRequest:
    return follower.request(wait_s, [], ready=True)


def with_keys(count: int) -> History:
    history = History()
    history.change(*(key(f"k{i}") for i in range(count)))
    return history


def follow(follower: FollowerState, history: History, page_size: int = 3) -> Next:
    """Until the answers have an end."""
    while True:
        outcome = follower.receive(history.response(question(follower), page_size))
        if outcome.next is not Next.CONTINUE:
            return outcome.next


def test_pages_become_a_part_and_then_changes_do() -> None:
    follower, history = state(), with_keys(10)
    assert follow(follower, history) is Next.APPLY
    assert follower.part.snapshot == history.snapshot
    assert follow(follower, history) is Next.NOTHING
    history.change(key("k3", "new"), deleted=(("key", "k4"),))
    request = question(follower)
    assert request.have.number == 2
    response = history.response(request)
    assert (len(response.resources), response.whole) == (2, False)
    assert follower.receive(response).next is Next.APPLY
    assert follower.part.snapshot == history.snapshot
    assert len(follower.part.snapshot.resources) == 9


def test_a_position_that_changes_between_pages_begins_anew() -> None:
    follower, history = state(), with_keys(5)
    assert follower.receive(history.response(question(follower), 3)).next is Next.CONTINUE
    history.change(key("k0", "other"))
    assert follower.receive(history.response(question(follower), 3)).next is Next.REFUSE
    assert question(follower).page_after == 0
    assert follow(follower, history) is Next.APPLY


def test_cursors_must_rise_and_pages_must_end(monkeypatch: pytest.MonkeyPatch) -> None:
    follower, history = state(), with_keys(9)
    first = history.response(question(follower), 3)
    assert follower.receive(first).next is Next.CONTINUE
    again = history.response(question(follower), 3)
    again.page = first.page
    assert follower.receive(again).next is Next.REFUSE

    monkeypatch.setattr(follower_state, "MAX_RESOURCES", 5)
    assert follow(follower, history) is Next.REFUSE
    monkeypatch.setattr(follower_state, "MAX_RESOURCES", 50)
    monkeypatch.setattr(follower_state, "MAX_BYTES", 5)
    assert follow(follower, history) is Next.REFUSE
    monkeypatch.setattr(follower_state, "MAX_BYTES", 50)
    assert follow(follower, history) is Next.APPLY


def test_a_part_that_changes_do_not_give_is_requested_as_a_whole() -> None:
    history = with_keys(3)
    follower = state(history)
    history.change(key("k9"))
    response = history.response(question(follower))
    del response.resources[:]
    assert follower.receive(response).next is Next.REFUSE
    request = question(follower)
    assert request.whole
    assert request.have.number == 2
    assert follower.receive(history.response(request)).next is Next.APPLY
    assert follower.part.snapshot == history.snapshot
    assert not question(follower).whole


def test_a_control_that_sends_more_kinds_at_the_same_position_is_followed() -> None:
    history = with_keys(3)
    follower = state(history)
    position, snapshot = history.steps[-1]
    history.steps[-1] = position, snapshot.changed([key("more")])
    request = question(follower)
    request.whole = True
    assert follower.receive(history.response(request)).next is Next.APPLY
    assert follower.part.snapshot.content("key", "more") == b"x"


def test_who_must_not_go_first_holds() -> None:
    follower, history = state(), with_keys(3)
    response = history.response(question(follower))
    response.may_apply = False
    assert follower.receive(response).next is Next.HOLD
    assert follower.part is None
    assert question(follower).page_after == 0


@pytest.mark.parametrize("what", ["yesterday", "emptied", "branch", "said"])
def test_what_does_not_descend_is_never_taken(what: str) -> None:
    history = with_keys(3)
    history.change(key("k1", "revoked"))
    follower = state(history)
    if what == "yesterday":
        other = history.restored(2)
    elif what == "branch":
        other = history.restored(2)
        for _ in range(5):
            other.change(key("k1", "back"))
    else:
        other = History()
    # A control that does not know what the process has, or does not say so.
    request = question(follower)
    request.ClearField("have")
    response = other.response(request) if what != "said" else WatchResponse(diverged="restored")
    outcome = follower.receive(response)
    assert outcome.next is Next.DIVERGED
    assert outcome.problem
    assert follower.part.snapshot.content("key", "k1") == b"revoked"
    assert not follower.offer(other.part())
    other.begin_epoch()
    assert follow(follower, other) is Next.APPLY


def test_a_part_of_elsewhere_is_had_only_if_it_is_newer() -> None:
    history = with_keys(3)
    follower = state(history)
    assert not follower.offer(history.part())
    history.change(key("a"))
    assert follower.offer(history.part())
    assert not follower.offer(history.restored(2).part())
    assert state().offer(history.part())


def test_the_first_question_says_who_asks_and_the_next_pages_are_asked_for_at_once() -> None:
    rejected = [RejectedResource(kind="key", name="a", sha256=b"1", problem="no")]
    follower, history = state(), with_keys(5)
    request = follower.request(1.5, rejected, ready=False)
    said: dict[str, Any] = {"watcher": "door-1", "service": "ingress", "wait_ms": 1500, "rejected": rejected}
    assert request == WatchRequest(**said, supports=["document", "freeze", "key", "release", "tenant"])
    for broken_off in (follower.failed, lambda: follower.receive(WatchResponse())):
        assert follower.receive(history.response(request, 3)).next is Next.CONTINUE
        following = question(follower, wait_s=5)
        assert (following.page_after, following.wait_ms, following.HasField("have")) == (3, 0, False)
        broken_off()
        assert question(follower).page_after == 0
    follower.receive(history.response(request, 3))
    assert follower.receive(WatchResponse()).next is Next.REFUSE
    assert follower.receive(WatchResponse()).next is Next.NOTHING


def no_progress(response: WatchResponse) -> None:
    response.page = 9
    del response.resources[:]


OTHER = hashlib.sha256(b"other").digest()
DAMAGE: dict[str, Callable[[WatchResponse], object]] = {
    "forged": lambda r: setattr(r, "signature", bytes(64)),
    "another key": lambda r: setattr(r, "signature", Signer(OTHER_PRIVATE)._key.sign(r.manifest)),
    "another content": lambda r: setattr(r.resources[0], "content", b"other"),
    "another content and hash": lambda r: r.resources[0].MergeFrom(Message(content=b"other", sha256=OTHER)),
    "twice": lambda r: r.resources.append(r.resources[0]),
    "one less": lambda r: r.resources.pop(),
    "changes alone": lambda r: setattr(r, "whole", False),
    "no name": lambda r: setattr(r.resources[0], "name", "a\tb"),
    "a deletion": lambda r: r.resources.append(Message(kind="key", name="gone")),
    "no progress": no_progress,
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_not_as_signed_is_refused_and_nothing_changes(what: str) -> None:
    follower, history = state(), with_keys(3)
    response = history.response(question(follower))
    DAMAGE[what](response)
    outcome = follower.receive(response)
    assert outcome.next is Next.REFUSE
    assert outcome.problem
    assert follower.part is None
    assert follow(follower, history) is Next.APPLY
