"""Stored explanations: retention, number, erasure."""

from dataclasses import replace

import pytest

from services.monitoring.database.facts import Facts
from services.monitoring.explanations.records import Explanation
from services.monitoring.explanations.store import ExplanationStore, forget

DAY_S = 86_400.0


def made(number: int, pipeline: str = "p") -> Explanation:
    return Explanation(
        number.to_bytes(16, "big"),
        "acme",
        pipeline,
        "f" * 64,
        "live",
        "y",
        0.5,
        0.75,
        True,
        ("a", "b"),
        (0.5, -0.25),
        (0.0, 0.0),
        ("document", "null"),
    )


@pytest.fixture
def store(facts: Facts) -> ExplanationStore:
    return ExplanationStore(facts)


def test_what_is_old_goes(store: ExplanationStore) -> None:
    store.add([made(1)], b"", 1 * DAY_S)
    store.add([made(2)], b"", 5 * DAY_S)
    assert store.sweep(4 * DAY_S, 1 << 30) == 1
    assert store.find(made(1).prediction_id) is None


def test_the_oldest_go_of_too_many(store: ExplanationStore) -> None:
    store.add([made(n) for n in range(100)], b"", 1.0)
    store.add([made(n) for n in range(100, 110)], b"", 2.0)
    assert store.sweep(0.0, 10) == 100
    assert store.find(made(109).prediction_id) == (made(109), 2.0)


def test_contributions_are_those_of_one_output(store: ExplanationStore) -> None:
    other = replace(made(2), output="z")
    store.add([made(1), other], b"", 10.0)
    assert store.contributions("p", "y", "b", 0.0) == {made(1).prediction_id: -0.25}
    assert store.contributions("p", "y", "c", 0.0) == {}
    assert store.contributions("p", "y", "b", 11.0) == {}


def test_a_report_comes_first_once_and_explanations_are_stored_all_the_same(store: ExplanationStore) -> None:
    assert store.add([], b"a" * 16, 1 * DAY_S) == ({}, True)
    assert store.add([made(1)], b"a" * 16, 1 * DAY_S) == ({"p": 1}, False)
    store.sweep(1 * DAY_S, 1 << 30)
    assert not store.add([], b"a" * 16, 1 * DAY_S)[1]
    store.sweep(2 * DAY_S, 1 << 30)
    assert store.add([], b"a" * 16, 2 * DAY_S)[1]


def test_explained_predictions_are_found_by_their_time(store: ExplanationStore) -> None:
    ids = {at: int(at * 1000).to_bytes(6, "big") + b"\xff" * 10 for at in (9.999, 10.0, 12.0, 12.001)}
    store.add([replace(made(0), prediction_id=identity) for identity in ids.values()], b"", 20.0)
    assert store.ids(10.0, 12.0) == [ids[10.0], ids[12.0]]
    assert store.count("p", "f" * 64, 9.0, 12.0) == 3
    assert (store.count("q", "f" * 64, 9.0, 12.0), store.count("p", "e" * 64, 9.0, 12.0)) == (0, 0)


def test_what_is_erased_goes_and_is_not_taken_any_more(store: ExplanationStore, facts: Facts) -> None:
    store.add([made(1), made(2)], b"", 1.0)
    for _ in range(2):
        facts.write(lambda c: forget(c, [made(1).prediction_id, made(3).prediction_id], 2.0))
    assert store.add([made(1), made(2), made(3), made(4)], b"", 3.0) == ({"p": 1}, True)
    assert store.find(made(1).prediction_id) is None
