"""Control and those who follow it: the simulation finds nothing in the code as it is, and finds what is planted."""

from collections.abc import Callable

import pytest

from headrace.resources import follower_state
from headrace.resources.disk import Disk
from tests.simulation.control import failures

CASES, BLOCK, FOUND_WITHIN = 60, 20, 60


@pytest.mark.parametrize("first", range(0, CASES, BLOCK))
def test_nothing_is_wrong_in_any_case(first: int) -> None:
    assert {seed: found for seed in range(first, first + BLOCK) if (found := failures(seed))} == {}


def whatever_is_signed_is_taken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(follower_state, "descends", lambda *_: True)


def the_disk_is_not_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Disk, "read", lambda *_: None)


@pytest.mark.parametrize(
    ("plant", "means"),
    [
        (whatever_is_signed_is_taken, "is no descendant"),
        (the_disk_is_not_read, "what was on the disk is not used"),
    ],
)
def test_what_is_planted_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], means: str
) -> None:
    plant(monkeypatch)
    assert any(means in wrong for seed in range(FOUND_WITHIN) for wrong in failures(seed))
