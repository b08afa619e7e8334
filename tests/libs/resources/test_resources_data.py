"""Kinds that are data: a crash suspects none of them, so nobody's new key waits until others have proven themselves."""

import pytest

from headrace.resources.apply import Applier, Unit, View
from headrace.resources.snapshot import Resource
from headrace.resources.trials import Trials
from tests.libs.resources.control_history import History

FIRST, SECOND = (Resource.of("key", name, b"new") for name in "ab")


@pytest.mark.parametrize(("data", "used"), [(("key",), ["a", "b"]), ((), ["a"])])
def test_after_a_crash_data_is_used_at_once(data: tuple[str, ...], used: list[str]) -> None:
    # Both were taken over just before the process before this one was killed.
    trials = Trials(groups=[[Unit.of(FIRST).sha256], [Unit.of(SECOND).sha256]])
    history, views = History(), list[View]()
    history.change(FIRST, SECOND)
    applier = Applier({}, views.append, None, trials, lambda: 0.0, data=data)
    applier.apply(history.part())
    assert views[-1].snapshot.names("key") == used
    assert bool(applier.trials.marked) is not bool(data)
    history.change(deleted=(FIRST.key,))
    applier.apply(history.part())
    assert "a" not in views[-1].snapshot.names("key")
