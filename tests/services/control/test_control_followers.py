"""Who applies a change first, and when nothing may be changed."""

import pytest

from headrace.catalog.access import Position
from services.control.resources.followers import (
    FIRST_S,
    GONE_S,
    MAX_FOLLOWERS,
    SHOWN_S,
    Follower,
    Followers,
    Rejected,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def at(number: int, epoch: int = 1) -> Position:
    return Position(epoch, number, bytes([number]) * 32)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def followers(clock: Clock) -> Followers:
    """Three routers at 5."""
    found = Followers(clock)
    for name in "abc":
        found.heard(Follower(name, "router", at(5)))
    return found


def test_one_goes_first_and_the_others_once_it_has_acknowledged(followers: Followers) -> None:
    assert followers.may_apply("router", "a", at(6), 0)
    assert not followers.may_apply("router", "b", at(6), 0)
    assert followers.may_apply("router", "a", at(6), 0), "it may ask again"
    followers.heard(Follower("a", "router", at(6)))
    assert followers.acknowledge("router", at(6))
    assert not followers.acknowledge("router", at(6)), "it is not the first any more"
    assert followers.may_apply("router", "b", at(6), 0)
    assert followers.may_apply("router", "c", at(6), 0)
    followers.heard(Follower("b", "router", at(6)))
    assert followers.may_apply("router", "b", at(7), 0), "a has done its part"
    assert not followers.may_apply("router", "c", at(7), 0)
    assert not followers.may_apply("router", "c", at(7), 5), "the urgent one is applied already"
    assert followers.may_apply("router", "c", at(7), 6), "what is taken back waits for nobody"
    assert followers.may_apply("router", "c", at(7, 2), 0), "nor does a new epoch"


def test_who_has_nothing_or_is_alone_waits_for_nobody(followers: Followers) -> None:
    followers.may_apply("router", "a", at(6), 0)
    followers.heard(Follower("new", "router", None))
    assert followers.may_apply("router", "new", at(6), 0)
    for name, have in (("alone", at(5)), ("starting", None)):
        followers.heard(Follower(name, "ingress", have))
    assert followers.may_apply("ingress", "alone", at(6), 0), "nor do services wait for each other"
    followers.heard(Follower("other", "ingress", at(5)))
    assert followers.may_apply("ingress", "other", at(6), 0)
    assert not followers.may_apply("ingress", "alone", at(6), 0)


def test_when_the_first_says_nothing_another_one_goes_first(followers: Followers, clock: Clock) -> None:
    """It may be frozen, or have died by the change, which must not kill all the others at once."""
    followers.may_apply("router", "a", at(6), 0)
    assert not followers.may_apply("router", "b", at(6), 0)
    assert followers.first_until("router") == clock.now + FIRST_S
    clock.now += FIRST_S - 1
    assert followers.may_apply("router", "a", at(6), 0), "it asks again, and has no more time for that"
    assert not followers.may_apply("router", "b", at(7), 0), "nor does a newer change give it more"
    clock.now += 1
    assert followers.may_apply("router", "b", at(7), 0)
    assert not followers.may_apply("router", "c", at(7), 0)
    assert not followers.may_apply("router", "a", at(7), 0)
    clock.now += FIRST_S
    assert followers.may_apply("router", "c", at(7), 0)
    assert not followers.may_apply("router", "b", at(7), 0)


def test_one_that_is_behind_does_not_go_first_while_others_are_not(
    followers: Followers, clock: Clock
) -> None:
    followers.heard(Follower("b", "router", at(6)))
    followers.acknowledge("router", at(6))
    assert not followers.may_apply("router", "a", at(7), 0)
    assert followers.may_apply("router", "b", at(7), 0)
    clock.now += FIRST_S
    assert not followers.may_apply("router", "a", at(8), 0)
    clock.now += 1
    assert followers.may_apply("router", "a", at(8), 0), "b has not been heard for long"


def test_one_that_is_frozen_delays_the_first_change_alone(followers: Followers, clock: Clock) -> None:
    followers.may_apply("router", "a", at(6), 0)
    clock.now += FIRST_S
    for number in (6, 7, 8):
        assert followers.may_apply("router", "b", at(number), 0)
        followers.heard(Follower("b", "router", at(number)))
        followers.acknowledge("router", at(number))
        assert followers.may_apply("router", "c", at(number), 0)


def test_what_ended_others_is_passed_on(followers: Followers, clock: Clock) -> None:
    rejected = Rejected("release", "flights", bytes(32), "it crashed", crashed=True)
    refused = Rejected("release", "other", bytes(32), "it is wrong")
    followers.heard(Follower("a", "router", at(5), (rejected, refused)))
    assert followers.crashed("router", "b") == [rejected]
    assert followers.crashed("router", "a") == []
    assert followers.crashed("executor", "b") == []
    clock.now += GONE_S - 1
    followers.answered("router", "b")
    clock.now += 2
    assert followers.crashed("router", "b") == []
    assert followers.counts() == {"router": 1}, "who is answered late is not gone"


def test_no_change_while_one_has_something_else(followers: Followers, clock: Clock) -> None:
    assert followers.refusal() == ""
    followers.heard(Follower("b", "router", at(9), diverged="1.9 is not there"))
    assert "1 processes of the data plane (b)" in followers.refusal()
    assert "1.9 is not there" in followers.refusal()
    assert followers.diverged() == 1
    assert followers.may_apply("router", "a", at(6), 0)
    followers.heard(Follower("b", "router", at(6)))
    assert (followers.refusal(), followers.diverged()) == ("", 0)
    followers.heard(Follower("b", "router", at(9), diverged="1.9 is not there"))
    clock.now += GONE_S
    assert followers.refusal() == "", "it is gone"
    for history in ((0, 2), (1, 2)):
        followers.heard(Follower("b", "router", at(9), diverged="1.9 is not there"))
        followers.judge_by(*history)
        assert followers.refusal() == "", "of a history that is not any more"
        followers.judge_by(*history)


def test_those_that_are_long_gone_are_forgotten_and_there_are_only_so_many(clock: Clock) -> None:
    followers = Followers(clock)
    for number in range(MAX_FOLLOWERS):
        assert followers.heard(Follower(f"r{number}", "router"))
    assert not followers.heard(Follower("one more", "router"))
    assert followers.heard(Follower("r0", "router", at(1))), "it is known"
    clock.now += SHOWN_S
    assert followers.heard(Follower("one more", "router"))
    assert [f.name for f in followers.all()] == ["one more"]
